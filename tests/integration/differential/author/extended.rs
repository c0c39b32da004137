//! Phrases of the extended protocol: prepared statements, portals, pipelines.

use testkit::Message;

use super::{Author, QUERIES};
use crate::differential::script::STATEMENTS;
use crate::differential::sql::{NAMED, Statement, UNNAMED};

impl Author {
    /// A statement, alone, and its Sync.
    pub(super) fn extended(&mut self) {
        self.statement();
        self.say(Message::sync());
    }

    /// Statements in a row, some with Flush or Sync between them; now and then without an end.
    pub(super) fn pipeline(&mut self) {
        for _ in 0..self.dice.below(5) {
            match self.dice.below(12) {
                0..5 => self.statement(),
                5..7 => self.again(),
                7 => self.close(),
                8 => self.say(Message::flush()),
                9 => self.say(Message::sync()),
                10 if self.dice.percent(50) => self.query(&QUERIES),
                _ => self.prepare(),
            }
            if self.dice.percent(20) {
                self.say(Message::flush());
            }
        }
        if self.dice.percent(90) {
            self.say(Message::sync());
        }
    }

    /// Prepares, binds and executes.
    fn statement(&mut self) {
        let named = self.dice.percent(50);
        let statement = self.choose(named);
        let name = if named { self.prepared(statement) } else { "" };
        if !named {
            self.parse("", statement);
        }
        if self.dice.percent(40) {
            self.say(Message::describe_statement(name));
        }
        self.bind(name, statement);
    }

    /// Uses a named statement, perhaps one that is not there, or not the one that it thinks of.
    fn again(&mut self) {
        let (name, statement) = if self.known.is_empty() || self.dice.percent(10) {
            (self.name(), self.choose(true))
        } else {
            {
                let at = self.dice.below(self.known.len());
                self.known[at]
            }
        };
        if self.dice.percent(30) {
            self.say(Message::describe_statement(name));
        }
        self.bind(name, statement);
    }

    fn prepare(&mut self) {
        let statement = self.choose(true);
        let name = self.prepared(statement);
        if self.dice.percent(30) {
            self.say(Message::describe_statement(name));
        }
    }

    /// Prepares by a name, rarely by one that is taken.
    fn prepared(&mut self, statement: &'static Statement) -> &'static str {
        let taken = |name: &str| self.known.iter().any(|(known, _)| *known == name);
        let free = STATEMENTS.into_iter().find(|name| !taken(name));
        let name = match free {
            Some(name) if self.dice.percent(90) => name,
            _ => self.name(),
        };
        self.known.push((name, statement));
        self.parse(name, statement);
        name
    }

    fn close(&mut self) {
        let message = match self.dice.below(4) {
            0 => Message::close_portal(self.portal()),
            1 => Message::close_statement(""),
            _ => Message::close_statement(self.name()),
        };
        self.say(message);
    }

    pub(super) fn name(&mut self) -> &'static str {
        self.dice.pick(&STATEMENTS)
    }

    pub(super) fn portal(&mut self) -> &'static str {
        self.dice.pick(&["", "", "", "p0", "p1"])
    }

    fn choose(&mut self, named: bool) -> &'static Statement {
        static ALL: [&[Statement]; 2] = [&NAMED, &UNNAMED];
        let few = usize::from(!named && self.dice.percent(15));
        &ALL[few][self.dice.below(ALL[few].len())]
    }

    fn parse(&mut self, name: &str, statement: &Statement) {
        const INT4: u32 = 23;
        const TEXT: u32 = 25;
        let sql = self.sql(statement.sql);
        let types: &[u32] = match self.dice.below(40) {
            0 => &[INT4],
            1 => &[TEXT, 0],
            // No such type.
            2 => &[99_999],
            _ => &[],
        };
        self.say(Message::parse_typed(name, &sql, types));
    }

    /// Binds values to a portal and executes that, in one go or in several.
    fn bind(&mut self, name: &str, statement: &Statement) {
        let portal = self.portal();
        let mut values: Vec<_> = statement
            .values
            .iter()
            .map(|choices| self.dice.pick(choices))
            .collect();
        if self.dice.percent(4) {
            values.push(Some("one too many"));
        }
        let formats: &[u16] = match self.dice.below(20) {
            0..3 => &[1],
            3 => &[0],
            4 => &[0, 1],
            // No such format.
            5 if self.dice.percent(30) => &[7],
            _ => &[],
        };
        self.say(Message::bind_formats(portal, name, &values, formats));
        if self.dice.percent(50) {
            self.say(Message::describe_portal(portal));
        }
        self.execute(portal);
        if statement.sql.contains("FROM STDIN") && self.dice.percent(80) {
            self.copy_body();
        }
    }

    fn execute(&mut self, portal: &str) {
        match self.dice.below(10) {
            0 => {}
            1..3 => {
                for _ in 0..1 + self.dice.below(3) {
                    let rows = 1 + self.dice.below(4);
                    self.say(Message::execute_rows(portal, rows));
                    if self.dice.percent(20) {
                        self.say(Message::flush());
                    }
                }
                if self.dice.percent(50) {
                    self.say(Message::close_portal(portal));
                }
            }
            _ => self.say(Message::execute(portal)),
        }
    }
}
