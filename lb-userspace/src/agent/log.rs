//! The log on standard error.

use std::io::{IsTerminal as _, stderr};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, fmt, registry};

use super::args::{LogFormat, LogLevel};

/// Starts the log. `level` is for the agent's own events; libraries get a word in from warnings on.
pub(super) fn init(format: LogFormat, level: LogLevel) {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let events = fmt::layer().with_writer(stderr).with_ansi(stderr().is_terminal());
    let events = match format {
        LogFormat::Text => events.with_target(false).boxed(),
        LogFormat::Json => events.json().flatten_event(true).boxed(),
    };
    let filter = Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("lb_userspace", level);
    registry().with(events).with(filter).init();
}
