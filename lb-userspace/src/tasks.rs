//! What goes on for ever: a task that ends, by a panic or in good order, is an error that names it.
//!
//! A task of tokio takes its panic with it, and what it did is no longer done while everything around it looks well.

use std::any::Any;
use std::collections::HashMap;
use std::future::{Future, pending};
use std::panic::resume_unwind;

use thiserror::Error;
use tokio::task::{Id, JoinError, JoinHandle, JoinSet, spawn_blocking};

/// A task or thread that was to go on for ever has ended.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{name} has ended{}", panic.as_ref().map(|said| format!(" by a panic: {said}")).unwrap_or_default())]
pub struct Ended {
    /// The task.
    pub name: String,
    /// What its panic said; `None`: there was none, or it is not known.
    pub panic: Option<String>,
}

impl Ended {
    /// What is called `name` has ended.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), panic: None }
    }
}

/// Tasks of one event loop. Dropped, they are aborted.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<()>,
    names: HashMap<Id, String>,
}

impl Tasks {
    /// Begins `task`, in a tokio runtime.
    pub fn spawn(&mut self, name: impl Into<String>, task: impl Future<Output = ()> + Send + 'static) {
        let handle = self.set.spawn(task);
        self.names.insert(handle.id(), name.into());
    }

    /// Waits for the first task that ends.
    pub async fn ended(&mut self) -> Ended {
        let Some(ended) = self.set.join_next_with_id().await else { return pending().await };
        let (id, panic) = match ended {
            Ok((id, ())) => (id, None),
            Err(error) => (error.id(), error.try_into_panic().ok()),
        };
        let name = self.names.remove(&id).unwrap_or_default();
        Ended { name, panic: panic.map(|panic| said(&*panic)) }
    }
}

/// What `work` returns, done beside the event loop. Its panic goes on here.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    joined(&mut spawn_blocking(work)).await
}

/// What the task of `handle` returns. Its panic goes on here. To be called again only if it has not returned.
pub async fn joined<T>(handle: &mut JoinHandle<T>) -> T {
    match handle.await.map_err(JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => resume_unwind(panic),
        // The runtime is going down.
        Err(Err(_)) => pending().await,
    }
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it says nothing").to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn the_task_that_ends_is_named_with_what_its_panic_says() {
        let mut tasks = Tasks::default();
        assert!(timeout(Duration::from_millis(1), tasks.ended()).await.is_err(), "there is none");
        tasks.spawn("steady", pending());
        tasks.spawn("broken", async { panic!("no {}", 7) });
        assert_eq!(tasks.ended().await.to_string(), "broken has ended by a panic: no 7");
        tasks.spawn("short", async {});
        assert_eq!(tasks.ended().await.to_string(), "short has ended");
    }

    #[tokio::test]
    async fn what_panics_beside_the_event_loop_is_no_answer() {
        assert_eq!(blocking(|| 7).await, 7);
        let mut tasks = Tasks::default();
        tasks.spawn("outer", async { blocking(|| panic!("inner")).await });
        assert_eq!(tasks.ended().await.panic.as_deref(), Some("inner"));
    }
}
