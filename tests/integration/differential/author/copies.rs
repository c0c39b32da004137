//! Phrases with a COPY, in both protocols, well and badly ended.

use testkit::{Message, Side};

use super::Author;
use crate::differential::sql::{COPIES_IN, COPIES_OUT, COPY_DATA};

impl Author {
    /// A COPY from the client by a simple query; by an extended one, whose Sync comes early, late
    /// or both.
    pub(super) fn copy_in(&mut self) {
        let template = self.dice.pick(&COPIES_IN);
        let sql = self.sql(template);
        if self.dice.percent(50) {
            self.say(Message::query(&sql));
            return self.copy_body();
        }
        self.unnamed(&sql);
        if self.dice.percent(40) {
            self.say(Message::sync());
        }
        self.copy_body();
        if self.dice.percent(90) {
            self.say(Message::sync());
        }
    }

    pub(super) fn copy_body(&mut self) {
        for _ in 0..self.dice.below(5) {
            let message = match self.dice.below(20) {
                0 => Message::flush(),
                1 => Message::sync(),
                _ => self.copy_data(),
            };
            self.say(message);
        }
        match self.dice.below(20) {
            0 => {}
            1..4 => self.say(Message::copy_fail("enough")),
            _ => self.say(Message::copy_done(Side::Client)),
        }
    }

    pub(super) fn copy_data(&mut self) -> Message {
        // The last two are bad, and would make nearly all COPYs fail.
        let good = if self.dice.percent(90) { 2 } else { 0 };
        let data = COPY_DATA[self.dice.below(COPY_DATA.len() - good)];
        Message::copy_data(Side::Client, data.as_bytes())
    }

    pub(super) fn copy_out(&mut self) {
        let template = self.dice.pick(&COPIES_OUT);
        let sql = self.sql(template);
        if self.dice.percent(50) {
            return self.say(Message::query(&sql));
        }
        self.unnamed(&sql);
        self.say(Message::sync());
    }

    fn unnamed(&mut self, sql: &str) {
        self.say(Message::parse("", sql));
        self.say(Message::bind("", "", &[]));
        if self.dice.percent(50) {
            self.say(Message::describe_portal(""));
        }
        self.say(Message::execute(""));
    }
}
