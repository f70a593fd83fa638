//! The layer on files that real servers wrote (`tests/golden/binlog`, made by `make.sh` there).

mod chain;
mod fixture;
mod hostile;
mod index;
mod mariadb;
mod relay;
mod share;
mod walk;
