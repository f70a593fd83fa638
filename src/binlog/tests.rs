//! The layer on files that real servers wrote (`tests/golden/binlog`, made by `make.sh` there).
mod fixture;
mod walk;
