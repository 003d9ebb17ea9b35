//! The black box: the real `tidings` program, met only through its doors and its command line.

mod bad_input;
mod broker;
mod channels;
mod cli;
mod crash;
mod delivery;
mod entities;
mod esink;
mod eventrelay;
mod filter;
mod gate;
mod grpc;
mod harness;
mod http;
mod inbound;
mod library;
mod mariadb;
mod mutated;
mod postgres;
mod quickstart;
mod rows;
mod schedule;
mod shutdown;
mod slow_reader;
mod time;
mod users;
