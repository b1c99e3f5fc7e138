//! The pair protocol under schedules that an explorer chooses: it may put another CPU between any two accesses to
//! shared memory, in the midst of a value too.

mod affinity;
mod direct;
mod floods;
mod pairs;
mod story;
