//! How the demo and the benches show what they found: pictures and tables for a terminal of 80 columns.
mod picture;
mod table;

pub use picture::Picture;
pub use table::{Table, time};
