//! Writes a seccomp filter: one program that finds a call's number by halving, as the kernel runs it for every
//! number when it is installed, and at every call that may be refused.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule, TargetArch, sock_filter};

/// What is done with the calls of one number: the first rule that holds says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) rules: Vec<(SeccompRule, SeccompAction)>,
    pub(super) otherwise: SeccompAction,
}

/// On x86-64 the kernel may know calls once more under other numbers, those of x32, which nothing here makes.
const X32: u32 = 0x4000_0000;
const ENOSYS: u32 = 38;

/// The longest program that the kernel takes (`BPF_MAXINSNS` of linux/bpf_common.h).
const LONGEST: usize = 4096;

/// `BPF_LD | BPF_W | BPF_ABS`, `BPF_JMP | BPF_JGE | BPF_K`, `BPF_JMP | BPF_JA`, `BPF_RET | BPF_K` (linux/filter.h).
const LOAD: u16 = 0x20;
const JUMP_IF_GREATER_EQUAL: u16 = 0x35;
const JUMP: u16 = 0x05;
const RETURN: u16 = 0x06;
/// Where a call's number is (`seccomp_data` of seccomp(2)).
const NUMBER: u32 = 0;

/// Writes the program for calls of these numbers, and of all others.
///
/// # Errors
/// Fails if it would be longer than the kernel takes.
pub(super) fn write(
    named: BTreeMap<u32, Verdict>,
    default: &SeccompAction,
    processor: TargetArch,
) -> Result<BpfProgram, seccompiler::BackendError> {
    let (kill, allow) = (SeccompAction::KillProcess, SeccompAction::Allow);
    // A program without rules is a look at the processor, and a last word.
    let mut program =
        BpfProgram::try_from(SeccompFilter::new(BTreeMap::new(), allow, kill, processor)?)?;
    program.pop();
    program.push(step(LOAD, NUMBER));
    program.extend(halve(&spans(named, default, processor)));
    match program.len() {
        0..=LONGEST => Ok(program),
        length => Err(seccompiler::BackendError::FilterTooLarge(length)),
    }
}

/// Numbers from one on, and what is done with their calls.
type Span = (u32, BpfProgram);

/// All numbers, in spans that are treated alike.
fn spans(
    named: BTreeMap<u32, Verdict>,
    default: &SeccompAction,
    processor: TargetArch,
) -> Vec<Span> {
    let last_word = |action: &SeccompAction| vec![step(RETURN, action.clone().into())];
    let mut all: Vec<Span> = vec![(0, last_word(default))];
    let mut add = |from: u32, steps: BpfProgram| match all.last_mut() {
        Some((last, old)) if *last == from => *old = steps,
        Some((_, old)) if *old == steps => {}
        _ => all.push((from, steps)),
    };
    for (number, Verdict { rules, otherwise }) in named {
        let mut steps = BpfProgram::new();
        for (rule, action) in rules {
            // What follows a rule is done if it holds, and else one step of it is left out.
            steps.extend(BpfProgram::from(rule));
            steps.extend(last_word(&action));
        }
        steps.extend(last_word(&otherwise));
        add(number, steps);
        add(number + 1, last_word(default));
    }
    if processor == TargetArch::x86_64 {
        add(X32, last_word(&SeccompAction::Errno(ENOSYS)));
    }
    all
}

/// Finds the span of the number that is loaded.
fn halve(spans: &[Span]) -> BpfProgram {
    if let [(_, steps)] = spans {
        return steps.clone();
    }
    let (low, high) = spans.split_at(spans.len() / 2);
    let (from, low, high) = (high[0].0, halve(low), halve(high));
    // A jump on a condition reaches 255 steps at most.
    let mut steps = vec![
        sock_filter { code: JUMP_IF_GREATER_EQUAL, jt: 0, jf: 1, k: from },
        step(JUMP, low.len() as u32),
    ];
    steps.extend(low);
    steps.extend(high);
    steps
}

fn step(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A call: its number and its arguments.
    pub(crate) type Call = (u32, [u64; 6]);

    /// What the kernel would do with a call under a program (the instructions of which are those of bpf(4), over
    /// `seccomp_data`).
    pub(crate) fn judge(program: &[sock_filter], (number, arguments): Call) -> u32 {
        let arch: u32 = match std::env::consts::ARCH {
            "x86_64" => 62,
            "aarch64" => 183,
            _ => 243,
        };
        let mut data = [number.to_ne_bytes(), (arch | 0xc000_0000).to_ne_bytes()].concat();
        data.extend([0; 8]);
        data.extend(arguments.iter().flat_map(|argument| argument.to_ne_bytes()));
        let (mut at, mut a) = (0, 0u32);
        loop {
            let sock_filter { code, jt, jf, k } = program[at].clone();
            at += 1;
            let jump = |holds: bool| usize::from(if holds { jt } else { jf });
            match code {
                0x20 => {
                    let from = k as usize;
                    a = u32::from_ne_bytes(data[from..from + 4].try_into().unwrap());
                }
                0x54 => a &= k,
                0x05 => at += k as usize,
                0x15 => at += jump(a == k),
                0x25 => at += jump(a > k),
                0x35 => at += jump(a >= k),
                0x06 => return k,
                other => panic!("{other:x}"),
            }
        }
    }

    #[test]
    fn calls_without_a_name_and_those_of_other_numbers_get_the_last_word() {
        let refused = SeccompAction::Errno(1);
        let verdict = Verdict { rules: Vec::new(), otherwise: refused.clone() };
        let named = BTreeMap::from([3, 4, 9].map(|number| (number, verdict.clone())));
        let here = TargetArch::try_from(std::env::consts::ARCH).unwrap();
        let program = write(named, &SeccompAction::Allow, here).unwrap();
        let refuses: Vec<u32> =
            (0..20).filter(|number| judge(&program, (*number, [0; 6])) != 0x7fff_0000).collect();
        assert_eq!(refuses, [3, 4, 9]);
        assert_eq!(judge(&program, (4, [0; 6])), u32::from(refused));
        if here == TargetArch::x86_64 {
            assert_eq!(judge(&program, (X32 + 3, [0; 6])), 0x0005_0000 | ENOSYS);
        }
    }

    #[test]
    fn a_program_is_short_for_every_number() {
        let verdict = Verdict { rules: Vec::new(), otherwise: SeccompAction::Errno(1) };
        let named: BTreeMap<_, _> = (0..200).map(|number| (number * 2, verdict.clone())).collect();
        let here = TargetArch::try_from(std::env::consts::ARCH).unwrap();
        let program = write(named, &SeccompAction::Allow, here).unwrap();
        // Three steps for each halving of some four hundred spans.
        let mut most = 0;
        for number in 0..400 {
            let (mut at, mut steps) = (4, 0);
            while program[at].code != RETURN {
                let sock_filter { code, jf, k, .. } = program[at].clone();
                at += 1 + match code {
                    JUMP_IF_GREATER_EQUAL if number >= k => 0,
                    JUMP_IF_GREATER_EQUAL => usize::from(jf),
                    _ => k as usize,
                };
                steps += 1;
            }
            most = most.max(steps);
        }
        assert!(most <= 20, "{most}");
    }

    #[test]
    fn one_that_is_too_long_is_refused() {
        let rule = || {
            let (word, op) = (seccompiler::SeccompCmpArgLen::Qword, seccompiler::SeccompCmpOp::Eq);
            let condition = seccompiler::SeccompCondition::new(0, word, op, 1).unwrap();
            (SeccompRule::new(vec![condition]).unwrap(), SeccompAction::Trap)
        };
        let rules = std::iter::repeat_with(rule).take(1000).collect();
        let verdict = Verdict { rules, otherwise: SeccompAction::Allow };
        let here = TargetArch::try_from(std::env::consts::ARCH).unwrap();
        let written = write(BTreeMap::from([(1, verdict)]), &SeccompAction::Allow, here);
        assert!(matches!(written, Err(seccompiler::BackendError::FilterTooLarge(_))));
    }
}
