//! How figures are taken and told, by `sluice bench` and `cargo xtask bench` alike: one form of a figure, one JSON schema.
//!
//! | module | holds |
//! |---|---|
//! | `facts` | the machine, and what else it did |
//! | `failed` | what of it could not be measured |
//! | `figure` | a reading of each side, what is to be reached, and whether it is |
//! | `rounds` | variants measured in rounds, each round in another order; what they say of each other |
//! | `report` | rows as text and as JSON |
//! | `html`, `page` | the same for browsers, with plots; and as a page of the documentation |
//! | `row` | the rows of a node |
//! | `target` | whom those send to where somebody else's rules are measured |
//! | `progress` | what is being done, on a terminal |

mod facts;
mod failed;
mod figure;
mod html;
mod page;
mod progress;
mod report;
mod rounds;
mod row;
pub mod target;

pub use facts::{Facts, Machine};
pub use failed::Failed;
pub use figure::{Better, Choice, Figure, Goal, Reading, Unit, Verdict, percentile};
pub use progress::Progress;
pub use report::{Measured, Report};
pub use rounds::Rounds;
pub use row::Row;
