//! A deadline that moves with every request and is hardly ever reached.
//!
//! A timer of tokio's that is set anew may cost a system call, since the thread that
//! waits for the next of them has to be told. So a timer that would ring too early is
//! left alone: it rings, nobody is late yet, and only then is it set anew.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// Rings when it is due, wherever it was polled last.
#[derive(Debug, Default)]
pub struct Alarm {
    /// `None`: never.
    due: Option<Instant>,
    /// Set for an earlier moment, or for this one.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// Moves it.
    pub fn set(&mut self, due: Option<Instant>) {
        self.due = due;
    }

    pub fn is_set(&self) -> bool {
        self.due.is_some()
    }

    /// Ready once it is due; then it stays so.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(due) = self.due else {
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() > due {
            timer.as_mut().reset(due);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= due {
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::time::{advance, timeout};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn it_rings_when_it_is_due_however_it_was_moved() {
        let start = Instant::now();
        let mut alarm = Alarm::default();
        assert!(timeout(SECOND, poll_fn(|cx| alarm.poll(cx))).await.is_err());
        for (seconds, moved) in [(60, 90), (10, 5), (20, 20)] {
            let now = Instant::now();
            alarm.set(Some(now + SECOND * seconds));
            assert!(poll_fn(|cx| Poll::Ready(alarm.poll(cx).is_pending())).await);
            advance(SECOND).await;
            let due = now + SECOND * moved;
            alarm.set(Some(due));
            poll_fn(|cx| alarm.poll(cx)).await;
            assert!(Instant::now() >= due && Instant::now() < due + SECOND);
            // It has rung, and is set again.
            assert!(poll_fn(|cx| Poll::Ready(alarm.poll(cx).is_ready())).await);
        }
        assert!(start.elapsed() > SECOND * 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_would_ring_too_early_is_left_alone() {
        let first = Instant::now() + SECOND;
        let mut alarm = Alarm::default();
        for (due, set) in [(0, 0), (9, 0), (60, 0)] {
            alarm.set(Some(first + SECOND * due));
            assert!(poll_fn(|cx| Poll::Ready(alarm.poll(cx).is_pending())).await);
            let timer = alarm.timer.as_ref().unwrap();
            assert_eq!(timer.deadline(), first + SECOND * set);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_off_does_not_ring() {
        let mut alarm = Alarm::default();
        alarm.set(Some(Instant::now() + SECOND));
        assert!(poll_fn(|cx| Poll::Ready(alarm.poll(cx).is_pending())).await);
        alarm.set(None);
        assert!(
            timeout(SECOND * 9, poll_fn(|cx| alarm.poll(cx)))
                .await
                .is_err()
        );
        // What was set for the time before is over, and says nothing of this.
        alarm.set(Some(Instant::now() + SECOND));
        assert!(poll_fn(|cx| Poll::Ready(alarm.poll(cx).is_pending())).await);
    }
}
