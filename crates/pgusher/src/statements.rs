//! A client's prepared statements: its names for pooled ones, and what its messages about them
//! become on the server that it has just now.
//!
//! Names count from the moment their Parse or Close goes by, since what follows in the same batch
//! relies on it. Each such change is kept in a journal until the server has answered, and taken
//! back if the request failed or was skipped. Where a message's meaning depends on an answer that
//! is still to come, it waits.

use std::cell::RefMut;
use std::collections::HashMap;
use std::sync::Arc;

use pool::server::ServerIo;
use pool::server::prepared::{Held, Prepared};
use pool::snapshot::Counters;
use pool::statements::{Charge, Statement, Statements};
use settings::{StatementErrors, StatementSettings};
use wire::error::{CHANGED_PLAN, ErrorFields, put_error_about, put_error_fields};
use wire::frontend::Refusal;
use wire::pipeline::{About, Failure, Pipeline};
use wire::statements::{
    Named, bind_front_len, put_bind_front, put_close, put_describe, put_flush, put_parse, shape,
};
use wire::{FrameHeader, SqlState, TxStatus};

/// Names that no pooled statement has, for requests that are to fail.
const MISSING: &[u8] = b"PGBOUNCER_none";
const TAKEN: &[u8] = b"PGBOUNCER_taken";

/// How names of pooled statements begin on servers.
const POOLED_PREFIX: &[u8] = b"PGBOUNCER_";

/// What a name takes besides its letters, in bytes.
const NAME_OVERHEAD: usize = 96;

/// The prepared statements of one client.
#[derive(Default)]
pub(crate) struct ClientStatements {
    names: HashMap<Box<[u8]>, Arc<Statement>>,
    /// What the names take of the memory for all statements.
    charge: Option<Charge>,
    /// Changes that the server has not confirmed yet, in order.
    journal: Vec<Change>,
    /// Requests that will fail, by their tickets, and what the client is to hear.
    refusals: Vec<(u64, Refused)>,
    /// Comparisons with what clients were told, under way on the server.
    comparing: Vec<Comparing>,
    /// The digest of the first half of a description.
    half: u64,
    /// The batch of the last refusal: the server skips what follows in it.
    refused_batch: Option<u64>,
}

/// What a message did that may have to be taken back.
struct Change {
    ticket: u64,
    /// Syncs sent before it: requests of the same batch fail together.
    batch: u64,
    what: What,
}

enum What {
    /// The name meant this before.
    Name(Box<[u8]>, Option<Arc<Statement>>),
    /// The server has got this one.
    Added(Arc<Statement>),
    /// The server has lost this one.
    Evicted(Arc<Statement>),
}

/// A Describe of our own, and what it is for.
struct Comparing {
    ticket: u64,
    statement: Arc<Statement>,
    /// The name that the client has just given it, expecting whatever it returns now.
    fresh: Option<Box<[u8]>>,
}

/// Why a request is made to fail: an error of the server's keeps transaction and batch as they
/// would be, and its words are ours.
enum Refused {
    Missing(Box<[u8]>),
    Taken(Box<[u8]>),
    PlanChanged,
    Memory,
}

/// What became of a message.
pub(crate) enum Taken {
    /// All of it is dealt with.
    Whole,
    /// Its front is, of this length; the rest follows as it is.
    Front(usize),
    /// It goes on as it is.
    AsItIs,
    /// It has to wait for answers of the server's.
    Wait,
    /// The server would skip it.
    Skip,
}

/// With whom a message is dealt with.
pub(crate) struct Desk<'a> {
    pub(crate) statements: &'a Statements,
    pub(crate) settings: StatementSettings,
    pub(crate) pipeline: &'a mut Pipeline,
    pub(crate) prepared: &'a mut Prepared,
    pub(crate) counters: RefMut<'a, Counters>,
    /// What is to be sent to the server.
    pub(crate) out: &'a mut Vec<u8>,
}

impl ClientStatements {
    /// The names, and what they mean, of a client that comes from another process.
    pub(crate) fn of(named: Vec<(Box<[u8]>, Arc<Statement>)>, statements: &Statements) -> Self {
        let bytes = named.iter().map(|(name, _)| NAME_OVERHEAD + name.len());
        Self {
            // It had them before: no limit takes them away.
            charge: statements.charge(bytes.sum(), None),
            names: named.into_iter().collect(),
            ..Self::default()
        }
    }

    /// The names, and what they mean.
    pub(crate) fn named(&self) -> impl Iterator<Item = (&[u8], &Statement)> {
        self.names.iter().map(|(name, it)| (&**name, &**it))
    }

    /// How many names there are.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// Deals with a message that names a statement.
    pub(crate) fn take(
        &mut self,
        header: FrameHeader,
        named: Named<'_>,
        desk: &mut Desk<'_>,
    ) -> Result<Taken, Refusal> {
        if self.refused_batch == Some(desk.pipeline.syncs_sent()) {
            return Ok(Taken::Skip);
        }
        if self.must_wait(named, desk) {
            return Ok(Taken::Wait);
        }
        match named {
            Named::Parse { name, definition } => self.parse(name, definition, desk),
            Named::Bind { portal, name } => self.bind(header, portal, name, desk),
            Named::Describe { name } => self.describe(name, desk),
            Named::Close { name } => {
                self.close(name, desk);
                Ok(Taken::Whole)
            }
        }
    }

    /// Whether what the name means, or what the server has, depends on answers still to come.
    fn must_wait(&mut self, named: Named<'_>, desk: &Desk<'_>) -> bool {
        if desk.pipeline.in_copy_in() {
            // The server waits for the client, and will say what it thinks of other messages.
            return false;
        }
        if !self.journal.is_empty() {
            self.journal
                .retain(|change| !desk.pipeline.has_settled(change.ticket));
        }
        if let Named::Bind { name, .. } = named
            && self.is_compared(name)
        {
            return true;
        }
        let batch = desk.pipeline.syncs_sent();
        let may_fail = |change: &&Change| change.batch != batch;
        if desk.pipeline.may_be_dropping() || !self.journal.iter().any(|change| may_fail(&change)) {
            return desk.pipeline.may_be_dropping();
        }
        let statement = match named {
            Named::Parse { definition, .. } => desk.statements.find(definition),
            Named::Bind { name, .. } | Named::Describe { name } => self.names.get(name).cloned(),
            Named::Close { .. } => None,
        };
        let mut changes = self.journal.iter().filter(may_fail);
        changes.any(|change| change.is_about(named.name(), statement.as_deref()))
    }

    /// Whether the server is being asked what the statement of this name returns.
    fn is_compared(&self, name: &[u8]) -> bool {
        !self.comparing.is_empty()
            && self.names.get(name).is_some_and(|statement| {
                let mut comparing = self.comparing.iter();
                comparing.any(|comparing| comparing.statement.id == statement.id)
            })
    }

    fn parse(
        &mut self,
        name: &[u8],
        definition: &[u8],
        desk: &mut Desk<'_>,
    ) -> Result<Taken, Refusal> {
        desk.counters.client_parse_count += 1;
        if self.names.contains_key(name) {
            return match desk.settings.errors {
                StatementErrors::PgBouncer => Err(Refusal::NameInUse),
                StatementErrors::Postgres => {
                    self.refuse_taken(name, definition, desk);
                    Ok(Taken::Whole)
                }
            };
        }
        let limit = desk.settings.memory;
        let statement = desk.statements.get(definition, limit);
        let Some(statement) = statement.filter(|_| self.charge_for(name, desk)) else {
            self.refuse_for_memory(desk);
            return Ok(Taken::Whole);
        };
        let ticket = match desk.prepared.touch(statement.id) {
            // In a failed transaction the server has to refuse it, and it may be failing now.
            Held::Ready | Held::Unseen
                if desk.pipeline.status() != TxStatus::Failed && !desk.pipeline.is_in_doubt() =>
            {
                desk.counters.prepared_hit_count += 1;
                let ticket = desk.pipeline.ticket();
                desk.pipeline.sent_about(About::FakeParse, ticket);
                ticket
            }
            held => {
                let ticket = self.prepare(&statement, held, About::Parse, desk);
                if statement.is_described() {
                    self.compare(&statement, Some(name.into()), desk);
                }
                ticket
            }
        };
        let before = self.names.insert(name.into(), statement);
        self.note(ticket, What::Name(name.into(), before), desk.pipeline);
        Ok(Taken::Whole)
    }

    /// Sends a Parse of a pooled statement, and what has to go before it.
    fn prepare(
        &mut self,
        statement: &Arc<Statement>,
        held: Held,
        about: About,
        desk: &mut Desk<'_>,
    ) -> u64 {
        let limit = desk.settings.per_server as usize;
        if held == Held::Missing {
            while let Some(oldest) = desk.prepared.evict(limit) {
                self.close_on_server(oldest, desk);
            }
        } else {
            desk.prepared.remove(statement.id);
            self.close_on_server(statement.clone(), desk);
        }
        desk.counters.server_parse_count += 1;
        put_parse(desk.out, &statement.name, &statement.definition);
        let ticket = desk.pipeline.ticket();
        desk.pipeline.sent_about(about, ticket);
        desk.prepared.add(statement.clone());
        self.note(ticket, What::Added(statement.clone()), desk.pipeline);
        ticket
    }

    fn close_on_server(&mut self, statement: Arc<Statement>, desk: &mut Desk<'_>) {
        put_close(desk.out, &statement.name);
        let ticket = desk.pipeline.ticket();
        desk.pipeline.sent_about(About::OwnClose, ticket);
        self.note(ticket, What::Evicted(statement), desk.pipeline);
    }

    fn bind(
        &mut self,
        header: FrameHeader,
        portal: &[u8],
        name: &[u8],
        desk: &mut Desk<'_>,
    ) -> Result<Taken, Refusal> {
        let front = Taken::Front(bind_front_len(portal, name));
        let Some(statement) = self.names.get(name).cloned() else {
            if may_pass(name, desk)? {
                return Ok(Taken::AsItIs);
            }
            put_bind_front(desk.out, header, (portal, name), MISSING);
            self.refuse(Refused::Missing(name.into()), desk);
            return Ok(front);
        };
        if statement.is_superseded() {
            // The client still believes in the old result. From now on it knows.
            self.renew(&statement, desk.statements);
            put_bind_front(desk.out, header, (portal, name), MISSING);
            self.refuse(Refused::PlanChanged, desk);
            return Ok(front);
        }
        if !self.ensure(&statement, desk) {
            return Ok(Taken::Wait);
        }
        desk.counters.bind_count += 1;
        if statement.drops_all {
            desk.pipeline.beware_of_drops();
        }
        put_bind_front(desk.out, header, (portal, name), &statement.name);
        desk.pipeline.sent_about(About::Bind, statement.id);
        Ok(front)
    }

    fn describe(&mut self, name: &[u8], desk: &mut Desk<'_>) -> Result<Taken, Refusal> {
        let Some(mut statement) = self.names.get(name).cloned() else {
            if may_pass(name, desk)? {
                return Ok(Taken::AsItIs);
            }
            put_describe(desk.out, MISSING);
            self.refuse(Refused::Missing(name.into()), desk);
            return Ok(Taken::Whole);
        };
        if statement.is_superseded() {
            // What it asks for is the new result.
            statement = self.renew(&statement, desk.statements);
        }
        match desk.prepared.touch(statement.id) {
            // The answer is compared when it comes.
            Held::Ready | Held::Unseen => desk.counters.prepared_hit_count += 1,
            held => {
                self.prepare(&statement, held, About::OwnParse, desk);
            }
        }
        put_describe(desk.out, &statement.name);
        desk.pipeline.sent_about(About::Describe, statement.id);
        Ok(Taken::Whole)
    }

    /// Closes a name, here: the statement stays on the server, for others.
    fn close(&mut self, name: &[u8], desk: &mut Desk<'_>) {
        let ticket = desk.pipeline.ticket();
        desk.pipeline.sent_about(About::FakeClose, ticket);
        if let Some(statement) = self.names.remove(name) {
            self.give_back(name);
            let what = What::Name(name.into(), Some(statement));
            self.note(ticket, what, desk.pipeline);
        }
    }

    /// Has the server prepare a statement, unless it has it; false if it is to be seen first whether
    /// it returns there what clients were told. Whoever knows an old result would misread a new one.
    fn ensure(&mut self, statement: &Arc<Statement>, desk: &mut Desk<'_>) -> bool {
        match desk.prepared.touch(statement.id) {
            Held::Ready => {
                desk.counters.prepared_hit_count += 1;
                return true;
            }
            Held::Unseen => desk.counters.prepared_hit_count += 1,
            held => {
                self.prepare(statement, held, About::OwnParse, desk);
            }
        }
        let described = statement.is_described();
        if described {
            self.compare(statement, None, desk);
        }
        !described
    }

    /// Asks the server what the statement takes and returns.
    fn compare(
        &mut self,
        statement: &Arc<Statement>,
        fresh: Option<Box<[u8]>>,
        desk: &mut Desk<'_>,
    ) {
        put_describe(desk.out, &statement.name);
        put_flush(desk.out);
        let ticket = desk.pipeline.ticket();
        desk.pipeline.sent_about(About::OwnDescribe, ticket);
        self.comparing.push(Comparing {
            ticket,
            statement: statement.clone(),
            fresh,
        });
    }

    /// A server described a statement, to the client or to us.
    pub(crate) fn described(
        &mut self,
        (about, mark): (About, u64),
        tag: u8,
        body: Option<&[u8]>,
        statements: &Statements,
        io: &mut ServerIo,
    ) {
        let shape = body.map(|body| shape(std::mem::take(&mut self.half), tag, body));
        if tag == b't' {
            self.half = shape.unwrap_or_default();
            return;
        }
        let (statement, fresh, told) = if about == About::OwnDescribe {
            let Some(place) = self.comparing.iter().position(|c| c.ticket == mark) else {
                return;
            };
            let comparing = self.comparing.remove(place);
            (comparing.statement, comparing.fresh, false)
        } else {
            let Some(statement) = self.names.values().find(|s| s.id == mark).cloned() else {
                return;
            };
            (statement, None, true)
        };
        // One too long to be looked at counts as what it was.
        if shape.is_none_or(|shape| statement.agrees(shape)) {
            io.prepared.compared(statement.id);
            return;
        }
        statements.supersede(&statement);
        if told {
            let new = self.renew(&statement, statements);
            new.agrees(shape.unwrap_or_default());
        } else if let Some(name) = fresh.and_then(|name| self.names.get_mut(&name)) {
            *name = statements.renew(&statement);
        }
    }

    /// All names of a superseded statement mean the new one.
    fn renew(&mut self, old: &Statement, statements: &Statements) -> Arc<Statement> {
        let new = statements.renew(old);
        for statement in self.names.values_mut() {
            if statement.id == old.id {
                *statement = new.clone();
            }
        }
        new
    }

    /// The server is to refuse a name that is taken, and for nothing else if the query is wrong in
    /// another way.
    fn refuse_taken(&mut self, name: &[u8], definition: &[u8], desk: &mut Desk<'_>) {
        put_close(desk.out, TAKEN);
        let ticket = desk.pipeline.ticket();
        desk.pipeline.sent_about(About::OwnClose, ticket);
        put_parse(desk.out, TAKEN, b"\0\0\0");
        let ticket = desk.pipeline.ticket();
        desk.pipeline.sent_about(About::OwnParse, ticket);
        put_parse(desk.out, TAKEN, definition);
        self.refuse(Refused::Taken(name.into()), desk);
    }

    /// There is no memory for another statement, or for its name.
    pub(crate) fn refuse_for_memory(&mut self, desk: &mut Desk<'_>) {
        put_describe(desk.out, MISSING);
        self.refuse(Refused::Memory, desk);
    }

    fn refuse(&mut self, refused: Refused, desk: &mut Desk<'_>) {
        let ticket = desk.pipeline.ticket();
        desk.pipeline.sent_about(About::Refused, ticket);
        self.refusals.push((ticket, refused));
        self.refused_batch = Some(desk.pipeline.syncs_sent());
    }

    fn note(&mut self, ticket: u64, what: What, pipeline: &Pipeline) {
        self.journal.push(Change {
            ticket,
            batch: pipeline.syncs_sent(),
            what,
        });
    }

    fn charge_for(&mut self, name: &[u8], desk: &Desk<'_>) -> bool {
        let (bytes, limit) = (NAME_OVERHEAD + name.len(), desk.settings.memory);
        match &mut self.charge {
            Some(charge) => charge.grow(bytes, limit),
            None => {
                self.charge = desk.statements.charge(bytes, limit);
                self.charge.is_some()
            }
        }
    }

    fn give_back(&mut self, name: &[u8]) {
        if let Some(charge) = &mut self.charge {
            charge.shrink(NAME_OVERHEAD + name.len());
        }
    }

    /// A request about a statement failed. Returns the ErrorResponse that the client is to see
    /// instead of the server's.
    pub(crate) fn failed(
        &mut self,
        failure: Failure,
        body: Option<&[u8]>,
        statements: &Statements,
        io: &mut ServerIo,
    ) -> Option<Vec<u8>> {
        let body = body?;
        let fields = ErrorFields::parse(body);
        match failure.about {
            About::Refused => {
                let place = self
                    .refusals
                    .iter()
                    .position(|(ticket, _)| *ticket == failure.mark)?;
                let (_, refused) = self.refusals.swap_remove(place);
                return refused.instead_of(body);
            }
            About::Bind | About::Describe => {
                self.bind_failed(failure.mark, &fields, statements, io);
            }
            About::Parse | About::OwnParse if fields.sqlstate == Some(SqlState::NAME_TAKEN) => {
                // Somebody's SQL gave this name to something else.
                let added = self.added(failure.mark);
                self.undo(io);
                if let Some(statement) = added {
                    io.prepared.add_stale(statement);
                }
            }
            _ => {}
        }
        None
    }

    /// What this request was to prepare.
    fn added(&self, ticket: u64) -> Option<Arc<Statement>> {
        self.journal.iter().find_map(|change| match &change.what {
            What::Added(statement) if change.ticket == ticket => Some(statement.clone()),
            _ => None,
        })
    }

    /// A pooled statement is of no more use there: the client's own retry is to work.
    fn bind_failed(
        &mut self,
        id: u64,
        fields: &ErrorFields,
        statements: &Statements,
        io: &mut ServerIo,
    ) {
        if fields.sqlstate == Some(SqlState::UNKNOWN_STATEMENT) {
            io.prepared.remove(id);
        } else if fields.is_changed_plan()
            && let Some(statement) = self.names.values().find(|s| s.id == id).cloned()
        {
            statements.supersede(&statement);
            self.renew(&statement, statements);
        }
    }

    /// Takes back what failed and what the server skipped.
    pub(crate) fn undo(&mut self, io: &mut ServerIo) {
        let undone = io.pipeline.take_undone();
        let undone = |ticket: &u64| undone.binary_search(ticket).is_ok();
        self.refusals.retain(|(ticket, _)| !undone(ticket));
        self.comparing
            .retain(|comparing| !undone(&comparing.ticket));
        let (back, journal) = std::mem::take(&mut self.journal)
            .into_iter()
            .partition(|change| undone(&change.ticket));
        self.journal = journal;
        let back: Vec<Change> = back;
        for change in back.into_iter().rev() {
            match change.what {
                What::Name(name, before) => self.take_back(name, before),
                What::Added(statement) => io.prepared.remove(statement.id),
                What::Evicted(statement) => io.prepared.restore(statement),
            }
        }
    }

    fn take_back(&mut self, name: Box<[u8]>, before: Option<Arc<Statement>>) {
        match before {
            None => {
                self.names.remove(&name);
                self.give_back(&name);
            }
            Some(statement) => {
                if let Some(charge) = &mut self.charge {
                    charge.grow(NAME_OVERHEAD + name.len(), None);
                }
                self.names.insert(name, statement);
            }
        }
    }

    /// The server dropped all its statements, and the client's with them; not those that were
    /// made behind.
    pub(crate) fn dropped_all(&mut self, io: &mut ServerIo) {
        io.prepared.clear();
        self.journal
            .retain(|change| !io.pipeline.has_settled(change.ticket));
        let mut kept = HashMap::new();
        for change in &mut self.journal {
            match &mut change.what {
                What::Name(name, before) => {
                    *before = None;
                    kept.extend(self.names.remove_entry(name));
                }
                What::Added(statement) => io.prepared.add(statement.clone()),
                What::Evicted(_) => {}
            }
        }
        if let Some(charge) = &mut self.charge {
            let gone = self.names.keys().map(|name| NAME_OVERHEAD + name.len());
            charge.shrink(gone.sum());
        }
        self.names = kept;
    }

    /// The lease is over: everything is answered.
    pub(crate) fn lease_over(&mut self) {
        self.journal.clear();
        self.refusals.clear();
        self.comparing.clear();
        self.half = 0;
        self.refused_batch = None;
    }
}

impl Change {
    /// Whether it matters to who means this statement by this name.
    fn is_about(&self, name: &[u8], statement: Option<&Statement>) -> bool {
        match &self.what {
            What::Name(changed, _) => **changed == *name,
            What::Added(changed) | What::Evicted(changed) => {
                statement.is_some_and(|statement| statement.id == changed.id)
            }
        }
    }
}

/// Whether a message with a name that the client has not given may go to the server, which knows
/// no such name either.
fn may_pass(name: &[u8], desk: &mut Desk<'_>) -> Result<bool, Refusal> {
    match desk.settings.errors {
        StatementErrors::PgBouncer => Err(Refusal::UnknownName),
        // It might know one of ours.
        StatementErrors::Postgres => Ok(!name.starts_with(POOLED_PREFIX)),
    }
}

impl Refused {
    /// The error in the place of the server's, if that is the one we provoked.
    fn instead_of(&self, body: &[u8]) -> Option<Vec<u8>> {
        let fields = ErrorFields::parse(body);
        let mut out = Vec::new();
        match self {
            Self::Missing(name) if fields.sqlstate == Some(SqlState::UNKNOWN_STATEMENT) => {
                put_error_about(&mut out, body, MISSING, name);
            }
            Self::Taken(name) if fields.sqlstate == Some(SqlState::NAME_TAKEN) => {
                put_error_about(&mut out, body, TAKEN, name);
            }
            // Drivers look at the routine to know that preparing anew will help.
            Self::PlanChanged if fields.sqlstate == Some(SqlState::UNKNOWN_STATEMENT) => {
                let code = SqlState::FEATURE_NOT_SUPPORTED;
                let message = "cached plan must not change result type";
                put_routine_error(&mut out, &fields, code, message, CHANGED_PLAN);
            }
            Self::Memory if fields.sqlstate == Some(SqlState::UNKNOWN_STATEMENT) => {
                let code = SqlState::OUT_OF_MEMORY;
                let message = "prepared statements would take more than prepared_statement_memory";
                put_routine_error(&mut out, &fields, code, message, "pgusher");
            }
            _ => return None,
        }
        Some(out)
    }
}

/// Appends an error of our own, as grave as the one in whose place it stands.
fn put_routine_error(
    out: &mut Vec<u8>,
    fields: &ErrorFields,
    code: SqlState,
    message: &str,
    routine: &str,
) {
    let fields = [
        (b'S', fields.severity.as_str()),
        (b'V', "ERROR"),
        (b'C', code.as_str()),
        (b'M', message),
        (b'R', routine),
    ];
    put_error_fields(out, &fields);
}
