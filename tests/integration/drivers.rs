//! Drivers, each its real package at a pinned version, find nothing missing.

mod python;
