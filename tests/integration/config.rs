//! From an ini file to a process, or to a reason why there is none.

mod checks;
mod files;
mod logs;
mod process;
mod service;
