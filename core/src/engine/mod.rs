//! The engine: the life of a request.
//!
//! `submit` takes it; `admit` validates it, its ranges by `bounds`, and reserves its
//! completion's place;
//! `bind` finds the methods of its pair (`affine` where plugins are bound to the
//! queue's thread); `dispatch` cuts it, what is left of it as `pieces` says, into
//! commands, which `orders` gives to plugins (`line` where a target states how many it
//! takes at once), `by_host` to the pool, `by_ring` to the
//! queue's io_uring, and `by_token` makes of tokens; `ends` takes their ends,
//! `failure` retries and falls back, `settle` ends the request; `straight` is the
//! short way of what one polled command can do, `way` what it knows of a pair,
//! `twins` its free commands, `landing` its end; `durable` flushes; `account` says
//! the truth about what was done, `why` what was not; `control` is what interrupts;
//! `poll` hands the completions out, to the caller's `places`, and `wait` sleeps.
//! `queue` holds it together for the owner's thread, `shared` is what other threads
//! see of it, `face` of one request, `plugin_queue` and `host_queue` are its two
//! sides to a plugin, `context` is what all queues share, `handles` its devices and
//! tokens, `routes` what is known of pairs, `barrier` how a closer and a submitter
//! see each other, `prefetch` how memory that another processor wrote comes in time.

mod account;
mod admit;
mod affine;
mod barrier;
mod bind;
mod bounds;
mod by_host;
mod by_ring;
#[cfg(test)]
mod by_ring_tests;
mod by_token;
mod cell;
mod clock;
mod contest;
pub mod context;
mod control;
mod describe;
pub mod devices;
mod dispatch;
mod durable;
mod ends;
mod face;
mod failure;
mod fork;
mod gate;
mod handles;
mod host_queue;
mod landing;
mod line;
mod memory;
mod on_pool;
mod orders;
mod pairs;
mod pieces;
mod places;
mod plugin_queue;
mod poll;
mod pool;
#[cfg(test)]
mod pool_tests;
mod prefetch;
pub mod queue;
pub mod reasons;
mod ring;
mod route;
mod routes;
mod services;
mod settle;
pub mod shared;
mod slot;
mod sparse;
#[cfg(test)]
mod sparse_tests;
mod straight;
mod submit;
mod table;
pub mod tokens;
#[cfg(test)]
mod tokens_tests;
mod twins;
mod unfit;
mod wait;
mod way;
mod why;

pub use context::Context;
pub use fork::{Latch, Shut};
pub use queue::Queue;
