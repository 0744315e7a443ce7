//! Any annotations of an image and any words of an operator make a policy within the ceiling, or an error.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use mote_spec::{Asks, Bytes, Ceiling, Grants, KEYS, Request, SecurityWants, decide};

type Words = Vec<(u8, String)>;

fn read(words: &Words) -> Option<Asks> {
    let key = |number: &u8| KEYS[usize::from(*number) % KEYS.len()].0.to_owned();
    let all: BTreeMap<String, String> =
        words.iter().map(|(number, value)| (key(number), value.clone())).collect();
    let asks = Asks::from_annotations(&all).ok()?;
    assert_eq!(Asks::from_annotations(&asks.to_annotations()).as_ref(), Ok(&asks));
    Some(asks)
}

fuzz_target!(|input: (Words, Words)| {
    let (Some(asks), Some(said)) = (read(&input.0), read(&input.1)) else { return };
    let ceiling = Ceiling::of_machine(Bytes::mib(512));
    let request = Request {
        limits: said.limits,
        grants: Grants { net: said.net, ..Grants::default() },
        security: SecurityWants { isolation: said.isolation, ..SecurityWants::default() },
    };
    if let Ok(policy) = decide(request.clone(), &asks, &ceiling) {
        assert!(policy.limits().memory <= ceiling.most.memory);
        assert_eq!(policy.grants(), &request.grants, "an image grants itself nothing");
        let saved = serde_json::to_string(&policy).expect("it is JSON");
        assert_eq!(serde_json::from_str::<mote_spec::Policy>(&saved).ok(), Some(policy));
    }
});
