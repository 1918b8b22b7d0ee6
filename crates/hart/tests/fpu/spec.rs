//! Sentences of the RISC-V unprivileged specification, chapters F and D, one test each.
