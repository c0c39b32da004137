//! Drivers, each its real package at a pinned version, find nothing missing.

mod jdbc;
mod node;
mod postgresql;
mod python;
mod tokio_postgres;
