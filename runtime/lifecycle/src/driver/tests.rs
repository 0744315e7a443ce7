//! The driver under commands, ends, failing disks, and crashes between any two steps.

use super::*;
use crate::container::Container;
use crate::records::tests::record;
use crate::recovery::{Host, Recovery, recover};
use crate::restart::RestartPolicy;
use mote_engine::Control;
use mote_spec::Limits;
use proptest::prelude::*;
use std::collections::HashSet;
use std::sync::Mutex;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// What survives a crash, and what happened to it.
#[derive(Default)]
struct Disk {
    record: Option<Record>,
    /// Every status that was ever saved, in order.
    saved: Vec<Status>,
    /// How many more operations succeed before the machine stops.
    left: Option<usize>,
    /// How many operations fail before they succeed again.
    failing: usize,
    /// Whether somebody else changed the record.
    stale: bool,
    /// The generations in which a guest was started.
    starts: Vec<u64>,
}

#[derive(Clone)]
struct Machine(Arc<Mutex<Disk>>);

impl Machine {
    fn new(record: Record) -> Machine {
        let disk = Disk { record: Some(record), ..Disk::default() };
        Machine(Arc::new(Mutex::new(disk)))
    }

    fn disk(&self) -> std::sync::MutexGuard<'_, Disk> {
        self.0.lock().unwrap()
    }

    /// One step: it may be the last that this process makes.
    async fn step(&self) {
        let crashed = {
            let mut disk = self.disk();
            match &mut disk.left {
                Some(0) => true,
                Some(left) => {
                    *left -= 1;
                    false
                }
                None => false,
            }
        };
        if crashed {
            std::future::pending::<()>().await;
        }
    }

    fn fails(&self) -> Result<(), RecordsError> {
        let mut disk = self.disk();
        if disk.stale {
            return Err(RecordsError::Stale(record("web").id));
        }
        if disk.failing > 0 {
            disk.failing -= 1;
            let why = "no space left on device".to_owned();
            return Err(RecordsError::Database { path: "records".into(), why });
        }
        Ok(())
    }
}

impl Keep for Machine {
    async fn update(&self, _from: &Record, record: &Record) -> Result<(), RecordsError> {
        self.step().await;
        self.fails()?;
        {
            let mut disk = self.disk();
            let held = disk.record.as_ref().expect("a removed record is not saved");
            assert_eq!(held.generation() + 1, record.generation(), "over the one it was made of");
            disk.record = Some(record.clone());
            disk.saved.push(record.status());
        }
        self.step().await;
        Ok(())
    }

    async fn delete(&self, _from: &Record, record: &Record) -> Result<(), RecordsError> {
        self.step().await;
        self.fails()?;
        {
            let mut disk = self.disk();
            disk.saved.push(record.status());
            disk.record = None;
        }
        self.step().await;
        Ok(())
    }
}

/// Guests that run until they are told to end.
struct Guests {
    machine: Machine,
    ends: Mutex<Vec<oneshot::Sender<ExitStatus>>>,
    refuse: Mutex<usize>,
}

impl Guests {
    fn on(machine: &Machine) -> Arc<Guests> {
        let machine = machine.clone();
        Arc::new(Guests { machine, ends: Mutex::default(), refuse: Mutex::new(0) })
    }

    /// Ends the guest that runs, if one does.
    fn end(&self, how: ExitStatus) -> bool {
        let mut ends = self.ends.lock().unwrap();
        ends.pop().is_some_and(|end| end.send(how).is_ok())
    }
}

impl Workload for Guests {
    async fn start(&self, record: &Record) -> Result<Running, String> {
        self.machine.step().await;
        let saved = self.machine.disk().record.as_ref().map(Record::status);
        assert_eq!(saved, Some(Status::Running), "it is saved before it is done");
        let refused = {
            let mut refuse = self.refuse.lock().unwrap();
            let refused = *refuse > 0;
            *refuse = refuse.saturating_sub(1);
            refused
        };
        if refused {
            return Err("its image is gone".to_owned());
        }
        self.machine.disk().starts.push(record.generation());
        let (end, ended) = oneshot::channel();
        self.ends.lock().unwrap().push(end);
        let guest = async move {
            match ended.await {
                Ok(status) => Ended { status, detail: None },
                Err(_) => std::future::pending().await,
            }
        };
        let control = Arc::new(Control::new(&Limits::default()));
        Ok(Running { guest: Box::pin(guest), control, gauge: Arc::default() })
    }
}

fn drive(machine: &Machine, guests: &Arc<Guests>) -> Container {
    process(machine, guests).0
}

/// A container, and the task that dies with the process that drives it.
fn process(machine: &Machine, guests: &Arc<Guests>) -> (Container, JoinHandle<()>) {
    let record = machine.disk().record.clone().unwrap();
    let (container, task) = Container::drive(record, Arc::new(machine.clone()), Arc::clone(guests));
    (container, tokio::spawn(task))
}

fn restarting(policy: &str) -> Machine {
    let mut made = record("web");
    made.restart = policy.parse::<RestartPolicy>().unwrap();
    Machine::new(made)
}

#[tokio::test]
async fn a_container_lives_as_it_is_told() {
    let machine = restarting("no");
    let guests = Guests::on(&machine);
    let container = drive(&machine, &guests);
    assert!(matches!(container.pause().await, Err(DriveError::Refused(_))));
    container.start().await.unwrap();
    assert!(matches!(container.remove().await, Err(DriveError::Refused(_))));
    container.pause().await.unwrap();
    container.unpause().await.unwrap();
    assert!(guests.end(ExitStatus::Exited(3)));
    let ended = container.wait(|record| !record.status().is_live()).await.unwrap();
    assert_eq!(ended.ending(), Some(ExitStatus::Exited(3)));
    // A stop that comes late changes nothing.
    container.stop().await.unwrap();
    assert_eq!(container.record().status(), Status::Stopped(ExitStatus::Exited(3)));
    container.rename("other".parse().unwrap()).await.unwrap();
    container.remove().await.unwrap();
    assert!(machine.disk().record.is_none());
    assert!(matches!(container.start().await, Err(DriveError::Gone)));
}

#[tokio::test]
async fn a_container_that_cannot_start_says_why() {
    let machine = restarting("no");
    let guests = Guests::on(&machine);
    *guests.refuse.lock().unwrap() = 1;
    let container = drive(&machine, &guests);
    assert!(matches!(container.start().await, Err(DriveError::Start(_))));
    let record = container.record();
    assert_eq!(record.ending(), Some(ExitStatus::NotStarted));
    assert_eq!(record.detail.as_deref(), Some("its image is gone"));
    container.start().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_failing_container_is_started_again_as_often_as_its_policy_says() {
    let machine = restarting("on-failure:3");
    let guests = Guests::on(&machine);
    let container = drive(&machine, &guests);
    container.start().await.unwrap();
    for restarts in 1..=3 {
        assert!(guests.end(ExitStatus::Trapped));
        let up = |record: &Record| record.restarts == restarts && record.status().is_live();
        container.wait(up).await.unwrap();
    }
    assert!(guests.end(ExitStatus::Trapped));
    container.wait(|record| !record.status().is_live()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(!container.record().status().is_live(), "it was the last time");
    // Somebody's start counts anew.
    container.start().await.unwrap();
    assert_eq!(container.record().restarts, 0);
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_it_waits_to_start_again_is_the_end() {
    let machine = restarting("always");
    let guests = Guests::on(&machine);
    let container = drive(&machine, &guests);
    container.start().await.unwrap();
    assert!(guests.end(ExitStatus::Exited(0)));
    container.wait(|record| !record.status().is_live()).await.unwrap();
    container.stop().await.unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(!container.record().status().is_live());
    assert_eq!(container.record().wanted, DesiredState::Down);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_cannot_be_saved_is_saved_later() {
    let machine = restarting("no");
    let guests = Guests::on(&machine);
    let container = drive(&machine, &guests);
    container.start().await.unwrap();
    machine.disk().failing = 3;
    assert!(guests.end(ExitStatus::OutOfMemory));
    let ended = container.wait(|record| !record.status().is_live()).await.unwrap();
    assert_eq!(ended.status(), Status::Stopped(ExitStatus::OutOfMemory));
    assert_eq!(machine.disk().failing, 0);
}

#[tokio::test]
async fn a_command_that_cannot_be_saved_does_not_happen() {
    let machine = restarting("no");
    let guests = Guests::on(&machine);
    let container = drive(&machine, &guests);
    machine.disk().failing = 1;
    assert!(matches!(container.start().await, Err(DriveError::Records(_))));
    assert_eq!(container.record().status(), Status::Created);
    assert!(machine.disk().starts.is_empty());
    container.start().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_fills_the_disk_can_be_killed() {
    let machine = restarting("always");
    let guests = Guests::on(&machine);
    let container = drive(&machine, &guests);
    container.start().await.unwrap();
    machine.disk().failing = 2;
    assert!(matches!(container.kill().await, Err(DriveError::Records(_))));
    assert!(!guests.end(ExitStatus::Exited(0)), "it is gone all the same");
    let ended = container.wait(|record| !record.status().is_live()).await.unwrap();
    assert_eq!(ended.status(), Status::Stopped(ExitStatus::Killed));
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(!container.record().status().is_live(), "and stays so");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_cannot_be_saved_does_not_take_the_next_one_along() {
    let machine = restarting("always");
    let guests = Guests::on(&machine);
    let container = drive(&machine, &guests);
    container.start().await.unwrap();
    assert!(guests.end(ExitStatus::Trapped));
    container.wait(|record| !record.status().is_live()).await.unwrap();
    machine.disk().failing = 1;
    container.start().await.unwrap_err();
    container.wait(|record| record.status().is_live()).await.unwrap();
}

/// A workload whose program is never loaded.
struct Loading(Arc<tokio::sync::Notify>);

impl Workload for Loading {
    async fn start(&self, _: &Record) -> Result<Running, String> {
        self.0.notify_one();
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_start_and_what_came_before_it_is_done_after() {
    let (machine, loading) = (Machine::new(record("web")), Arc::new(tokio::sync::Notify::new()));
    let held = machine.disk().record.clone().unwrap();
    let workload = Arc::new(Loading(Arc::clone(&loading)));
    let (container, driver) = Container::drive(held, Arc::new(machine.clone()), workload);
    tokio::spawn(driver);
    let start = tokio::spawn({
        let container = container.clone();
        async move { container.start().await }
    });
    loading.notified().await;
    let (renamed, stopped) = tokio::join!(
        biased;
        container.rename("site".parse().unwrap()),
        container.stop(),
    );
    assert!(stopped.is_ok() && renamed.is_ok());
    let started = start.await.unwrap();
    assert!(matches!(started, Err(DriveError::Start(why)) if why.contains("was stopped")));
    let now = container.record();
    assert_eq!((now.status(), now.name.as_str()), (Status::Stopped(ExitStatus::Stopped), "site"));
}

#[tokio::test]
async fn a_restart_is_an_end_and_a_start() {
    let machine = restarting("no");
    let guests = Guests::on(&machine);
    let container = drive(&machine, &guests);
    container.restart().await.unwrap();
    container.pause().await.unwrap();
    container.restart().await.unwrap();
    let stopped = Status::Stopped(ExitStatus::Stopped);
    let expected = [Status::Running, Status::Paused, stopped, Status::Running];
    assert_eq!(machine.disk().saved, expected);
    assert_eq!((container.record().ends, container.record().wanted), (1, DesiredState::Up));
}

#[tokio::test(start_paused = true)]
async fn what_goes_at_its_end_goes_also_when_the_disk_fails_at_first() {
    let mut made = record("web");
    made.setup.removal = Removal::AtEnd;
    let machine = Machine::new(made);
    let guests = Guests::on(&machine);
    let (container, task) = process(&machine, &guests);
    container.start().await.unwrap();
    machine.disk().failing = 4;
    assert!(guests.end(ExitStatus::Exited(5)));
    task.await.unwrap();
    assert!(machine.disk().record.is_none());
    assert_eq!(container.record().status(), Status::Removed);
    assert_eq!(container.record().last_end, Some(ExitStatus::Exited(5)), "who waits is told");
}

#[tokio::test(start_paused = true)]
async fn what_ends_with_its_host_is_wanted_by_the_next() {
    let machine = restarting("unless-stopped");
    let guests = Guests::on(&machine);
    let container = drive(&machine, &guests);
    container.start().await.unwrap();
    container.end_with_host().await.unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let found = machine.disk().record.clone().unwrap();
    assert_eq!(found.ending(), Some(ExitStatus::Stopped));
    assert_eq!(recover(&found, Host::Gone), Recovery::Start);
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_is_let_end_is_not_started_again() {
    let machine = restarting("always");
    let guests = Guests::on(&machine);
    let container = drive(&machine, &guests);
    container.start().await.unwrap();
    container.let_end().await.unwrap();
    assert!(guests.end(ExitStatus::Exited(0)));
    container.wait(|record| !record.status().is_live()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(!container.record().status().is_live());
}

#[tokio::test]
async fn what_another_process_drives_is_left_to_it() {
    let machine = restarting("no");
    let guests = Guests::on(&machine);
    let (container, task) = process(&machine, &guests);
    container.start().await.unwrap();
    machine.disk().stale = true;
    assert!(matches!(container.pause().await, Err(DriveError::Records(RecordsError::Stale(_)))));
    task.await.unwrap();
    assert!(!guests.end(ExitStatus::Exited(0)), "its guest is gone");
}

#[derive(Debug, Clone)]
enum Act {
    Start,
    Stop,
    Kill,
    Pause,
    Unpause,
    Restart,
    LetEnd,
    Unhealthy,
    Remove,
    /// The guest ends of itself.
    End(bool),
    /// The machine stops so many steps from now.
    Crash(usize),
    Fail(usize),
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => Just(Act::Start),
        2 => Just(Act::Stop),
        1 => Just(Act::Kill),
        2 => Just(Act::Pause),
        2 => Just(Act::Unpause),
        2 => Just(Act::Restart),
        1 => Just(Act::LetEnd),
        1 => Just(Act::Unhealthy),
        1 => Just(Act::Remove),
        3 => any::<bool>().prop_map(Act::End),
        4 => (0usize..7).prop_map(Act::Crash),
        1 => (1usize..3).prop_map(Act::Fail),
    ]
}

/// Carries out one command; `None` if the machine stopped before it was acknowledged.
async fn perform(container: &Container, guests: &Guests, act: &Act) -> Option<bool> {
    let command = async {
        match act {
            Act::Start => container.start().await.is_ok(),
            Act::Stop => container.stop().await.is_ok(),
            Act::Kill => container.kill().await.is_ok(),
            Act::Pause => container.pause().await.is_ok(),
            Act::Unpause => container.unpause().await.is_ok(),
            Act::Restart => container.restart().await.is_ok(),
            Act::LetEnd => container.let_end().await.is_ok(),
            Act::Unhealthy => {
                let ended = Ended { status: ExitStatus::Killed, detail: None };
                container.fail(ended).await.is_ok()
            }
            Act::Remove => container.remove().await.is_ok(),
            Act::End(well) => {
                let how = if *well { ExitStatus::Exited(0) } else { ExitStatus::Trapped };
                if !guests.end(how) {
                    return false;
                }
                container.wait(|record| !record.status().is_live()).await.is_ok()
            }
            Act::Crash(_) | Act::Fail(_) => false,
        }
    };
    // A machine that has stopped answers nothing; the clock is the test's, so this takes no time.
    tokio::time::timeout(Duration::from_secs(3600), command).await.ok()
}

/// What an acknowledged command leaves on the disk.
fn holds(act: &Act, record: Option<&Record>) -> bool {
    let status = record.map(Record::status);
    match act {
        Act::Start | Act::Unpause | Act::Restart => status == Some(Status::Running),
        Act::LetEnd => record.is_some_and(|record| record.wanted == DesiredState::Down),
        Act::Pause => status == Some(Status::Paused),
        Act::Stop | Act::Kill | Act::Unhealthy => status.is_some_and(|status| !status.is_live()),
        Act::Remove => status.is_none(),
        Act::End(_) | Act::Crash(_) | Act::Fail(_) => true,
    }
}

fn is_valid(from: Status, to: Status) -> bool {
    let ends = match to {
        Status::Stopped(how) => Event::Exit(how),
        Status::Created | Status::Running | Status::Paused | Status::Removed => Event::Remove,
    };
    let events = [Event::Start, Event::Pause, Event::Unpause, Event::Remove, ends];
    events.into_iter().any(|event| from.after(event) == Ok(to))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Statement 2.1 on the real driver: with crashes between any two steps, every persisted change is
    /// a valid transition, none that was acknowledged is lost, and no guest is started twice for one.
    #[test]
    fn statement_2_1_holds_through_crashes(
        policy in 0usize..3, acts in proptest::collection::vec(any_act(), 1..40)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let machine = restarting(["no", "on-failure:2", "always"][policy]);
        runtime.block_on(async {
            let mut guests = Guests::on(&machine);
            let (mut container, mut task) = process(&machine, &guests);
            for act in &acts {
                match act {
                    Act::Crash(steps) => machine.disk().left = Some(*steps),
                    Act::Fail(count) => machine.disk().failing = *count,
                    _ => {}
                }
                let acknowledged = perform(&container, &guests, act).await;
                // What is wanted and always restarted runs again before long.
                let (failing, left, held) = {
                    let disk = machine.disk();
                    (disk.failing, disk.left, disk.record.clone())
                };
                if let Some(held) = held.filter(|held| held.wanted == DesiredState::Up)
                    && policy == 2
                    && (failing, left) == (0, None)
                    && acknowledged.is_some()
                {
                    let live = |record: &Record| record.status().is_live();
                    let waited = tokio::time::timeout(
                        Duration::from_secs(600),
                        container.wait(live),
                    );
                    prop_assert!(waited.await.is_ok(), "it is forgotten: {:?}", held);
                }
                // A restart may have followed at once; no time has passed for one unless the
                // container's policy has one.
                if acknowledged == Some(true) && policy == 0 {
                    prop_assert!(holds(act, machine.disk().record.as_ref()), "{:?}", act);
                }
                if machine.disk().record.is_none() {
                    break;
                }
                if acknowledged.is_none() || machine.disk().left == Some(0) {
                    // The next process finds what is on the disk, and a lock that is free.
                    task.abort();
                    machine.disk().left = None;
                    machine.disk().failing = 0;
                    guests = Guests::on(&machine);
                    let found = machine.disk().record.clone().unwrap();
                    let recovery = recover(&found, Host::Gone);
                    if let Recovery::Lost(event) | Recovery::LostThenStart(event) = recovery {
                        let next = found.after(event, Time::now()).unwrap();
                        machine.update(&found, &next).await.unwrap();
                    }
                    (container, task) = process(&machine, &guests);
                    if let Recovery::Start | Recovery::LostThenStart(_) = recovery {
                        container.start_again().await.unwrap();
                    }
                }
            }
            Ok(())
        })?;
        let disk = machine.disk();
        let mut from = Status::Created;
        for to in &disk.saved {
            // What else a record says may change while its status stays.
            if from == *to {
                continue;
            }
            prop_assert!(is_valid(from, *to), "{:?} to {:?}", from, to);
            from = *to;
        }
        let distinct: HashSet<u64> = disk.starts.iter().copied().collect();
        prop_assert_eq!(distinct.len(), disk.starts.len(), "no start happens twice");
        let started = disk.saved.iter().filter(|status| **status == Status::Running).count();
        prop_assert!(disk.starts.len() <= started);
    }
}
