//! A preview 1 guest that sleeps does not hold its thread, so that it can be stopped and paused.
//!
//! WASI's own implementation sleeps on the thread wherever file operations may block it, which they
//! may for the sake of their speed.

use std::time::Duration;

use wasmtime::{Caller, Linker};
use wasmtime_wasi::p1::types::{self, Errno};
use wasmtime_wasi::p1::wasi_snapshot_preview1 as raw;
use wiggle::GuestPtr;

use super::p1::Guest;
use crate::sandbox::Sandbox;

pub(crate) fn link(linker: &mut Linker<Sandbox>, module: &str) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        module,
        "poll_oneoff",
        |mut caller: Caller<'_, Sandbox>,
         (subscriptions, events, count, written): (i32, i32, i32, i32)| {
            Box::new(async move {
                let mut guest = Guest::of(&mut caller)?;
                match guest.sleep(subscriptions, count)? {
                    Some((sleep, userdata)) => {
                        tokio::time::sleep(sleep).await;
                        guest.wake(userdata, events, written)
                    }
                    None => {
                        let (memory, p1) = (&mut guest.memory, &mut guest.sandbox.p1);
                        raw::poll_oneoff(p1, memory, subscriptions, events, count, written).await
                    }
                }
            })
        },
    )?;
    Ok(())
}

impl Guest<'_> {
    /// How long a guest wants to sleep that waits for nothing else.
    fn sleep(
        &self,
        subscriptions: i32,
        count: i32,
    ) -> wasmtime::Result<Option<(Duration, types::Userdata)>> {
        if count != 1 {
            return Ok(None);
        }
        let at = GuestPtr::<types::Subscription>::new(subscriptions as u32);
        let subscription = self.memory.read(at)?;
        Ok(match subscription.u {
            types::SubscriptionU::Clock(clock)
                if !clock.flags.contains(types::Subclockflags::SUBSCRIPTION_CLOCK_ABSTIME) =>
            {
                Some((Duration::from_nanos(clock.timeout), subscription.userdata))
            }
            types::SubscriptionU::Clock(_)
            | types::SubscriptionU::FdRead(_)
            | types::SubscriptionU::FdWrite(_) => None,
        })
    }

    /// Tells the guest that its time has come.
    fn wake(
        &mut self,
        userdata: types::Userdata,
        events: i32,
        written: i32,
    ) -> wasmtime::Result<i32> {
        let nothing = types::EventFdReadwrite { nbytes: 0, flags: types::Eventrwflags::empty() };
        let event = types::Event {
            userdata,
            error: Errno::Success,
            type_: types::Eventtype::Clock,
            fd_readwrite: nothing,
        };
        self.memory.write(GuestPtr::<types::Event>::new(events as u32), event)?;
        self.memory.write(GuestPtr::<u32>::new(written as u32), 1)?;
        Ok(Errno::Success as i32)
    }
}
