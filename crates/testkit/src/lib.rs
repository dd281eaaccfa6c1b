//! For tests alone: real engines that are thrown away, a fake engine for what a real one cannot be made to
//! show, and the smallest of images.

pub mod fake;
pub mod image;
pub mod real;
