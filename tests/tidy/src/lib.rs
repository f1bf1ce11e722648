//! Checks of the tree itself; the tests are in `tests/`. Nothing is here.
#![forbid(unsafe_code)]
