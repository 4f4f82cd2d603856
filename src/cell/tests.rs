//! A cell among threads that remember its tokens.

use std::{sync::mpsc, thread, time::Duration};

use super::{recent::REMEMBERED, *};
use crate::{request::TokenRequest, token::Timeline};

const HOUR: u64 = 3_600_000_000_000;

fn at(nanos: u64) -> Now {
    Now::from_nanos(nanos, nanos)
}

fn cell() -> Arc<Cell<()>> {
    Arc::new(Cell::new(TokenRequest::new("https://vault.azure.net/.default").unwrap().key().clone(), ()))
}

fn token(cell: &Cell<()>, text: &str) -> Arc<Token> {
    let timeline = Timeline::at(HOUR, 2 * HOUR, 3 * HOUR);
    Arc::new(Token::new(text, None, timeline, at(0), cell.key()).unwrap())
}

fn taken(cell: &Cell<()>, now: u64) -> Option<String> {
    cell.take(at(now)).map(|token| token.secret().to_owned())
}

/// Often enough that this thread remembers it.
fn learn(cell: &Cell<()>, text: &str) {
    for _ in 0..4 {
        assert_eq!(taken(cell, 1).as_deref(), Some(text));
    }
}

#[test]
fn what_a_thread_remembers_it_is_given_only_while_it_is_current() {
    let cell = cell();
    cell.publish(token(&cell, "first"));
    learn(&cell, "first");
    let second = token(&cell, "second");
    cell.publish(Arc::clone(&second));
    learn(&cell, "second");
    assert!(cell.withdraw(&second) && !cell.withdraw(&second));
    assert_eq!(taken(&cell, 1), None);
    cell.publish(token(&cell, "third"));
    learn(&cell, "third");
    drop(cell.detach());
    assert_eq!(taken(&cell, 1), None);
}

#[test]
fn what_a_thread_remembers_ages_as_it_does_in_the_cell() {
    let cell = cell();
    cell.publish(token(&cell, "token"));
    learn(&cell, "token");
    assert_eq!(taken(&cell, HOUR), None, "due");
    cell.set_quiet_until(u64::MAX);
    assert!(taken(&cell, HOUR).is_some(), "due, and being refreshed");
    assert_eq!(taken(&cell, 2 * HOUR), None, "last call");
    assert!(taken(&cell, 1).is_some());
}

#[test]
fn a_thread_that_remembers_a_token_does_not_keep_it_alive() {
    let cell = cell();
    let token = token(&cell, "token");
    cell.publish(Arc::clone(&token));
    learn(&cell, "token");
    let watch = Arc::downgrade(&token);
    cell.publish(self::token(&cell, "next"));
    drop(token);
    assert!(watch.upgrade().is_none());
}

#[test]
fn many_cells_are_never_mistaken_for_one_another() {
    let cells: Vec<_> = (0..3 * REMEMBERED).map(|_| cell()).collect();
    for (at, cell) in cells.iter().enumerate() {
        cell.publish(token(cell, &format!("{at}")));
    }
    // Those without a token are in between, and each is asked for more than once in a row.
    let empty = cell();
    for round in 0..1_000 {
        let at = round * 7 / 3 % cells.len();
        assert_eq!(taken(&cells[at], 1), Some(format!("{at}")));
        assert_eq!(taken(&empty, 1), None);
    }
}

#[test]
fn once_it_was_withdrawn_no_thread_is_given_it() {
    let cell = cell();
    thread::scope(|scope| {
        let (told, tell): (Vec<_>, Vec<_>) = (0..3)
            .map(|_| {
                let (tell, told) = mpsc::sync_channel::<usize>(1);
                (told, tell)
            })
            .unzip();
        for told in told {
            let cell = &cell;
            scope.spawn(move || {
                let mut gone = 0;
                loop {
                    match told.recv_timeout(Duration::ZERO) {
                        Ok(number) => gone = number,
                        Err(mpsc::RecvTimeoutError::Disconnected) => break,
                        Err(mpsc::RecvTimeoutError::Timeout) => {}
                    }
                    for _ in 0..20 {
                        let given = taken(cell, 1).map_or(usize::MAX, |text| text.parse().unwrap());
                        assert!(given > gone, "given {given} though {gone} was withdrawn");
                    }
                    thread::yield_now();
                }
            });
        }
        for number in 1..100 {
            let token = token(&cell, &number.to_string());
            cell.publish(Arc::clone(&token));
            thread::yield_now();
            assert!(cell.withdraw(&token));
            tell.iter().for_each(|tell| tell.send(number).unwrap());
        }
        drop(tell);
    });
}

#[test]
fn a_million_of_them_cost_no_word_too_much() {
    // Two counts of owners come before each.
    assert_eq!((size_of::<Cell<Rare<()>>>(), size_of::<Token>()), (88, 88));
}
