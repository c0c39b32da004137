//! The extended protocol: statements, portals, and what may be wrong with them.

use super::{Outcome, Portal, Protocol, Session};
use crate::{
    fake_server::{
        answer::{description, parameter_count},
        record::End,
    },
    message::{Body, Message},
};

/// The error that a message deserves.
struct Refusal {
    code: &'static str,
    text: String,
}

impl Session {
    /// Answers one message of a pipeline.
    pub(super) async fn extended(&mut self, message: &Message) -> Result<Outcome, End> {
        let mut body = Body(&message.body);
        let answered = match message.tag {
            b'P' => self.parse(&mut body),
            b'B' => self.bind(&mut body),
            b'D' => self.describe(&mut body),
            b'C' => self.close(&mut body),
            _ => match self.portal(&mut body) {
                Ok(portal) => return self.run(portal, Protocol::Extended).await,
                Err(refusal) => Err(refusal),
            },
        };
        match answered {
            Ok(()) => Ok(Outcome::Done),
            Err(Refusal { code, text }) => {
                self.fail(&Message::error("ERROR", code, &text));
                Ok(Outcome::Failed)
            }
        }
    }

    fn parse(&mut self, body: &mut Body<'_>) -> Result<(), Refusal> {
        let (name, sql) = (
            body.text().ok_or_else(malformed)?,
            body.text().ok_or_else(malformed)?,
        );
        if !name.is_empty() && self.statements.contains_key(&name) {
            let text = format!("prepared statement \"{name}\" already exists");
            return Err(Refusal {
                code: "42P05",
                text,
            });
        }
        self.statements
            .insert(name, sql.trim_end_matches(';').to_owned());
        self.say(&Message::parse_complete());
        Ok(())
    }

    fn bind(&mut self, body: &mut Body<'_>) -> Result<(), Refusal> {
        let portal = body.text().ok_or_else(malformed)?;
        let sql = self.statement(body)?;
        let formats = body.u16().ok_or_else(malformed)?;
        body.bytes(usize::from(formats) * 2).ok_or_else(malformed)?;
        let values = body.values().ok_or_else(malformed)?;
        self.portals.insert(portal, Portal { sql, values });
        self.say(&Message::bind_complete());
        Ok(())
    }

    fn describe(&mut self, body: &mut Body<'_>) -> Result<(), Refusal> {
        if body.byte() == Some(b'S') {
            let sql = self.statement(body)?;
            self.say(&Message::parameter_description(parameter_count(&sql)));
            self.say(&description(&sql));
        } else {
            let portal = self.portal(body)?;
            self.say(&description(&portal.sql));
        }
        Ok(())
    }

    fn close(&mut self, body: &mut Body<'_>) -> Result<(), Refusal> {
        let kind = body.byte();
        let name = body.text().ok_or_else(malformed)?;
        if kind == Some(b'S') {
            self.statements.remove(&name);
        } else {
            self.portals.remove(&name);
        }
        self.say(&Message::close_complete());
        Ok(())
    }

    fn statement(&self, body: &mut Body<'_>) -> Result<String, Refusal> {
        let name = body.text().ok_or_else(malformed)?;
        let sql = self.statements.get(&name).cloned();
        let text = format!("prepared statement \"{name}\" does not exist");
        sql.ok_or(Refusal {
            code: "26000",
            text,
        })
    }

    fn portal(&self, body: &mut Body<'_>) -> Result<Portal, Refusal> {
        let name = body.text().ok_or_else(malformed)?;
        let portal = self.portals.get(&name).cloned();
        let text = format!("portal \"{name}\" does not exist");
        portal.ok_or(Refusal {
            code: "34000",
            text,
        })
    }
}

fn malformed() -> Refusal {
    Refusal {
        code: "08P01",
        text: "malformed message".to_owned(),
    }
}
