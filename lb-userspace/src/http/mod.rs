//! Small HTTP servers that nobody can hurt the agent with: what they answer is short or made elsewhere, connections and
//! their lives are limited, and of too many the oldest goes, so that who comes new is served. And what is asked of others.

mod board;
mod requests;
mod server;

pub use board::Board;
pub use requests::Requests;
pub use server::{Answer, answer, bind, json, keep, not_found, serve, text};
