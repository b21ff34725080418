//! For tests of applications.
