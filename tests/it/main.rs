//! Tests of the product from outside: the real binary, real sockets, real backends.
//!
//! One module for each paragraph of what longhaul must do, in the order an
//! operator meets it. Nothing here may look inside the library.

mod bounds;
mod forward;
mod kit;
mod listen;
mod pick;
mod route;
mod smoke;
mod start;
mod stop;
mod tunnel;
mod upgrade;
