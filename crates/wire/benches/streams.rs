//! What it costs to walk the streams of clients and servers: scan and pipeline.
//!
//! `cargo bench -p pgusher-wire`

use divan::{Bencher, black_box, counter::BytesCount};
use pgusher_wire::backend::{self, Outflow, put_complete, put_data_row, put_ready};
use pgusher_wire::frame::{Scanner, put};
use pgusher_wire::frontend::{self, Policy, put_query};
use pgusher_wire::{FrameHeader, Pipeline};

fn main() {
    divan::main();
}

const POLICY: Policy = Policy {
    pools_statements: true,
    simple_query: true,
    packet_len_max: 1 << 30,
};

/// Frames in a read buffer of 64 KB, entered one after the other.
#[divan::bench(args = [16, 100, 1024, 8192])]
fn scan(bencher: Bencher<'_, '_>, row_len: usize) {
    let bytes = rows(row_len);
    let bencher = bencher.counter(BytesCount::new(bytes.len()));
    bencher.bench(|| {
        let mut scanner = Scanner::default();
        let mut rest = black_box(&bytes[..]);
        while let Ok(Some(header)) = FrameHeader::peek(rest) {
            rest = &rest[scanner.enter(header, rest)..];
        }
        rest.len()
    });
}

/// The same as a server's answer under way.
#[divan::bench(args = [16, 100, 1024, 8192])]
fn rows_of_an_answer(bencher: Bencher<'_, '_>, row_len: usize) {
    let bytes = rows(row_len);
    let mut pipeline = Pipeline::default();
    ask(&mut pipeline, &simple());
    let mut outflow = Outflow::default();
    let bencher = bencher.counter(BytesCount::new(bytes.len()));
    bencher.bench_local(|| hear(&mut outflow, &mut pipeline, black_box(&bytes)));
}

/// `SELECT 1` as a simple query: the client's bytes, then the server's.
#[divan::bench]
fn simple_query(bencher: Bencher<'_, '_>) {
    let (question, answer) = (simple(), answer(&[]));
    transact(bencher, &question, &answer);
}

/// The same by Parse, Bind, Describe, Execute and Sync, unnamed.
#[divan::bench]
fn extended_query(bencher: Bencher<'_, '_>) {
    let (question, answer) = (extended(), answer(b"12"));
    transact(bencher, &question, &answer);
}

fn transact(bencher: Bencher<'_, '_>, question: &[u8], answer: &[u8]) {
    let (mut outflow, mut pipeline) = (Outflow::default(), Pipeline::default());
    bencher.bench_local(|| {
        ask(&mut pipeline, black_box(question));
        hear(&mut outflow, &mut pipeline, black_box(answer));
        assert!(pipeline.take_ready() && pipeline.is_settled());
    });
}

fn ask(pipeline: &mut Pipeline, mut bytes: &[u8]) {
    let mut intake = frontend::Intake::default();
    while !bytes.is_empty() {
        match intake.next(bytes, Some(pipeline), POLICY) {
            frontend::Action::Forward(len) => bytes = &bytes[len..],
            other => panic!("{other:?}"),
        }
    }
}

fn hear(outflow: &mut Outflow, pipeline: &mut Pipeline, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match outflow.next(bytes, pipeline) {
            Ok(backend::Action::Forward(len)) => bytes = &bytes[len..],
            other => panic!("{other:?}"),
        }
    }
}

fn rows(row_len: usize) -> Vec<u8> {
    const BUFFER: usize = 64 * 1024;
    let (mut bytes, value) = (Vec::new(), vec![b'x'; row_len]);
    while bytes.len() < BUFFER {
        put_data_row(&mut bytes, &[Some(&value)]);
    }
    bytes
}

fn simple() -> Vec<u8> {
    let mut bytes = Vec::new();
    put_query(&mut bytes, "SELECT 1");
    bytes
}

fn extended() -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut bytes, b'P', |body| {
        body.extend(b"\0SELECT $1::int4\0\0\0");
    });
    put(&mut bytes, b'B', |body| {
        body.extend(b"\0\0\0\0\0\x01\0\0\0\x011\0\0");
    });
    put(&mut bytes, b'D', |body| body.extend(b"P\0"));
    put(&mut bytes, b'E', |body| body.extend(b"\0\0\0\0\0"));
    put(&mut bytes, b'S', |_| {});
    bytes
}

/// These empty messages, a description, a row and the end.
fn answer(first: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for &tag in first {
        put(&mut bytes, tag, |_| {});
    }
    put(&mut bytes, b'T', |body| {
        body.extend([0, 1]);
        body.extend(b"int4\0");
        body.extend([0; 18]);
    });
    put_data_row(&mut bytes, &[Some(b"1")]);
    put_complete(&mut bytes, "SELECT 1");
    put_ready(&mut bytes);
    bytes
}
