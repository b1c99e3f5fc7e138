//! Objects in, Service ports out: every case in every order of arrival.

#![expect(clippy::unwrap_used, reason = "fixtures are written here, and must be right")]

mod changes;
mod endpoints;
mod health;
mod outside;
mod properties;
mod selection;
mod services;
mod support;
