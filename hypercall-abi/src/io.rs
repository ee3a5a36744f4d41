//! Protocols between frontends and backends, or between guests and the store and console daemons (`io/*.h`).

pub mod block;
pub mod console;
pub mod net;
pub mod ring;
pub mod xenbus;
pub mod xenstore;
