//! The room as a whole: texts in, configs or diagnostics out.

mod files;
mod messages;
