//! The stop signal, and what is still alive: a value that is passed to whoever
//! works, never a global.
//!
//! Two stages: at `Draining` work in hand is finished and nothing new begun, at
//! `Ending` everything is dropped. A holder of a [`Watch`] counts as alive.

use tokio::sync::watch;

/// How far stopping has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Running,
    Draining,
    Ending,
}

/// The side that orders the stop.
#[derive(Debug)]
pub struct Drain(watch::Sender<Stage>);

/// The side that obeys; hold it for as long as the work lasts.
#[derive(Clone, Debug)]
pub struct Watch(watch::Receiver<Stage>);

/// A running process.
pub fn channel() -> (Drain, Watch) {
    let (sender, receiver) = watch::channel(Stage::Running);
    (Drain(sender), Watch(receiver))
}

impl Drain {
    /// Moves on to a later stage; an earlier one changes nothing.
    pub fn enter(&self, stage: Stage) {
        self.0.send_if_modified(|current| {
            let moves = stage > *current;
            if moves {
                *current = stage;
            }
            moves
        });
    }

    /// Resolves when nobody holds a watch.
    pub async fn finished(&self) {
        self.0.closed().await;
    }
}

impl Watch {
    pub fn stage(&self) -> Stage {
        *self.0.borrow()
    }

    /// Resolves at the stage or any later one.
    pub async fn reached(&mut self, stage: Stage) {
        // An error means that the ordering side is gone: as good as the end.
        let _ = self.0.wait_for(|current| *current >= stage).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stages_only_advance_and_the_last_holder_ends_it() {
        let (drain, mut watch) = channel();
        let other = watch.clone();
        drain.enter(Stage::Ending);
        drain.enter(Stage::Draining);
        watch.reached(Stage::Draining).await;
        assert_eq!(watch.stage(), Stage::Ending);
        drop((watch, other));
        drain.finished().await;
    }
}
