//! The requests, one function each: decode, refuse or act, answer.

use crate::hypervisor::Hypervisor;
use crate::path::Path;
use crate::permission::{Permission, PermissionList, parse_domain};
use crate::store::{Store, log};
use crate::transaction::Transaction;
use crate::tree::Change;
use crate::view::View;
use crate::watch::{ConnectionId, SpecialNode, Subject, Watch};
use crate::wire::{Message, MessageType, PAYLOAD_MAX, StoreError, encode, exact_strings, split_strings};

/// What a request is answered with.
pub(crate) enum Reply {
    /// It is done.
    Done,
    /// These bytes.
    Bytes(Vec<u8>),
    /// It is done, and this is the first event of a new watch: path and token.
    DoneThenEvent(String, String),
}

type Answer = Result<Reply, StoreError>;

impl<H: Hypervisor> Store<H> {
    /// Answers a request.
    pub(crate) fn answer(&mut self, id: ConnectionId, message: Message) {
        let header = message.header;
        let outcome = match MessageType::from_number(header.kind) {
            Some(kind) => self.dispatch(id, kind, &message),
            None => Err(StoreError::NotImplemented),
        };
        if self.tracing {
            self.trace(id, &message, &outcome);
        }
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.failure().is_some() {
            return;
        }
        let kind = MessageType::from_number(header.kind).unwrap_or(MessageType::Error);
        let mut first_event = None;
        let (kind, payload) = match outcome {
            Ok(Reply::Bytes(bytes)) if bytes.len() > PAYLOAD_MAX => {
                (MessageType::Error, error_payload(StoreError::TooBig))
            }
            Ok(Reply::Bytes(bytes)) => (kind, bytes),
            Ok(Reply::Done) => (kind, b"OK\0".to_vec()),
            Ok(Reply::DoneThenEvent(path, token)) => {
                first_event = Some((path, token));
                (kind, b"OK\0".to_vec())
            }
            Err(error) => (MessageType::Error, error_payload(error)),
        };
        connection
            .output
            .push_reply(encode(kind, header.request_id, header.transaction_id, &payload));
        if let Some((path, token)) = first_event {
            connection.output.push_event(&path, &token);
        }
    }

    fn trace(&self, id: ConnectionId, message: &Message, outcome: &Answer) {
        let kind = MessageType::from_number(message.header.kind);
        let domain = self
            .connections
            .get(&id)
            .map(|connection| connection.caller.domain);
        let result = outcome.as_ref().map_or_else(|error| error.name(), |_| "ok");
        log(&format!(
            "trace: connection {} domain {} {:?} transaction {} \"{}\": {result}",
            id.0,
            domain.map_or_else(String::new, |domain| domain.to_string()),
            kind,
            message.header.transaction_id,
            message.payload.escape_ascii(),
        ));
    }

    fn dispatch(&mut self, id: ConnectionId, kind: MessageType, message: &Message) -> Answer {
        let payload = &message.payload[..];
        let transaction = message.header.transaction_id;
        match kind {
            MessageType::Read => self.look(id, transaction, payload, |view, path| {
                view.read(path).map(Reply::Bytes)
            }),
            MessageType::Directory => self.look(id, transaction, payload, |view, path| {
                view.directory(path).map(Reply::Bytes)
            }),
            MessageType::DirectoryPart => self.directory_part(id, transaction, payload),
            MessageType::GetPermissions => self.get_permissions(id, transaction, payload),
            MessageType::Write => self.write(id, transaction, payload),
            MessageType::MakeDirectory => {
                self.change(id, transaction, payload, |view, path| view.make_directory(path))
            }
            MessageType::Remove => self.change(id, transaction, payload, |view, path| view.remove(path)),
            MessageType::SetPermissions => self.set_permissions(id, transaction, payload),
            MessageType::Watch => self.watch(id, payload),
            MessageType::Unwatch => self.unwatch(id, payload),
            MessageType::ResetWatches => self.reset(id),
            MessageType::TransactionStart => self.transaction_start(id, transaction),
            MessageType::TransactionEnd => self.transaction_end(id, transaction, payload),
            MessageType::GetDomainPath => {
                let [domain] = exact_strings(payload)?;
                Ok(Reply::Bytes(
                    format!("{}\0", Path::home(parse_domain(domain)?)).into_bytes(),
                ))
            }
            MessageType::IsDomainIntroduced => {
                let [domain] = exact_strings(payload)?;
                let known = self.is_introduced(parse_domain(domain)?);
                Ok(Reply::Bytes(if known { b"T\0" } else { b"F\0" }.to_vec()))
            }
            MessageType::Introduce => {
                self.privileged(id)?;
                let (strings, rest) = split_strings(payload);
                if !rest.is_empty() || !(3..=4).contains(&strings.len()) {
                    return Err(StoreError::InvalidArgument);
                }
                let number = |index: usize| std::str::from_utf8(strings[index]).ok();
                let domain = parse_domain(number(0).ok_or(StoreError::InvalidArgument)?)?;
                let port = number(2)
                    .and_then(|text| text.parse().ok())
                    .ok_or(StoreError::InvalidArgument)?;
                self.introduce(domain, port).map(|()| Reply::Done)
            }
            MessageType::Release => {
                self.privileged(id)?;
                let [domain] = exact_strings(payload)?;
                self.release(parse_domain(domain)?).map(|()| Reply::Done)
            }
            MessageType::Resume => {
                self.privileged(id)?;
                let [domain] = exact_strings(payload)?;
                self.resume(parse_domain(domain)?).map(|()| Reply::Done)
            }
            MessageType::SetTarget => {
                self.privileged(id)?;
                let [domain, target] = exact_strings(payload)?;
                self.set_target(parse_domain(domain)?, parse_domain(target)?)
                    .map(|()| Reply::Done)
            }
            MessageType::Control => {
                self.privileged(id)?;
                self.control_command(payload).map(Reply::Bytes)
            }
            // These two travel the other way.
            MessageType::WatchEvent | MessageType::Error => Err(StoreError::NotImplemented),
        }
    }

    fn privileged(&self, id: ConnectionId) -> Result<(), StoreError> {
        let privileged = self
            .connections
            .get(&id)
            .is_some_and(|connection| connection.caller.is_privileged());
        if privileged {
            Ok(())
        } else {
            Err(StoreError::AccessDenied)
        }
    }

    /// Runs an operation on the tree, or on the copy of the transaction that the request names, and tells watchers of
    /// what it changed (a transaction's when it commits).
    fn with_view<T>(
        &mut self,
        id: ConnectionId,
        transaction: u32,
        path: &str,
        operate: impl FnOnce(&mut View<'_>, &Path) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let connection = self.connections.get_mut(&id).ok_or(StoreError::NoEntry)?;
        let caller = connection.caller;
        let path = Path::parse(path, caller.domain)?;
        let mut view = match transaction {
            0 => View {
                tree: &mut self.tree,
                record: None,
                caller,
                limits: &self.limits,
            },
            number => {
                let transaction = connection
                    .transactions
                    .get_mut(&number)
                    .ok_or(StoreError::NoEntry)?;
                let record = Some(&mut transaction.record);
                View {
                    tree: &mut transaction.tree,
                    record,
                    caller,
                    limits: &self.limits,
                }
            }
        };
        operate(&mut view, &path)
    }

    fn look(
        &mut self,
        id: ConnectionId,
        transaction: u32,
        payload: &[u8],
        operate: impl FnOnce(&mut View<'_>, &Path) -> Answer,
    ) -> Answer {
        let [path] = exact_strings(payload)?;
        self.with_view(id, transaction, path, operate)
    }

    fn change(
        &mut self,
        id: ConnectionId,
        transaction: u32,
        payload: &[u8],
        operate: impl FnOnce(&mut View<'_>, &Path) -> Result<Option<Change>, StoreError>,
    ) -> Answer {
        let [path] = exact_strings(payload)?;
        self.change_at(id, transaction, path, operate)
    }

    fn change_at(
        &mut self,
        id: ConnectionId,
        transaction: u32,
        path: &str,
        operate: impl FnOnce(&mut View<'_>, &Path) -> Result<Option<Change>, StoreError>,
    ) -> Answer {
        let change = self.with_view(id, transaction, path, operate)?;
        if transaction == 0 && self.fire(change.as_slice()) {
            self.penalise(id);
        }
        Ok(Reply::Done)
    }

    fn directory_part(&mut self, id: ConnectionId, transaction: u32, payload: &[u8]) -> Answer {
        let [path, offset] = exact_strings(payload)?;
        let offset = offset.parse().map_err(|_| StoreError::InvalidArgument)?;
        self.with_view(id, transaction, path, |view, path| {
            view.directory_part(path, offset)
        })
        .map(Reply::Bytes)
    }

    fn get_permissions(&mut self, id: ConnectionId, transaction: u32, payload: &[u8]) -> Answer {
        let [path] = exact_strings(payload)?;
        if let Some((special, list)) = self.special(path)? {
            let caller = self.connections.get(&id).ok_or(StoreError::NoEntry)?.caller;
            debug_assert_eq!(special.name(), path);
            return if list.access(caller).read {
                Ok(Reply::Bytes(list.encode()))
            } else {
                Err(StoreError::AccessDenied)
            };
        }
        self.with_view(id, transaction, path, |view, path| {
            view.permissions(path).map(|list| Reply::Bytes(list.encode()))
        })
    }

    fn set_permissions(&mut self, id: ConnectionId, transaction: u32, payload: &[u8]) -> Answer {
        let (strings, rest) = split_strings(payload);
        let (path, entries) = strings.split_first().ok_or(StoreError::InvalidArgument)?;
        if !rest.is_empty() {
            return Err(StoreError::InvalidArgument);
        }
        let path = text(path)?;
        let entries = entries
            .iter()
            .map(|entry| Permission::parse(text(entry)?))
            .collect::<Result<_, _>>()?;
        let permissions = PermissionList::new(entries)?;
        if let Some((special, list)) = self.special(path)? {
            let caller = self.connections.get(&id).ok_or(StoreError::NoEntry)?.caller;
            // Unlike a node's, this list never changes hands and is no guest's to change.
            if !caller.is_privileged() || permissions.owner() != list.owner() {
                return Err(StoreError::AccessDenied);
            }
            self.special_permissions.insert(special, permissions);
            return Ok(Reply::Done);
        }
        self.change_at(id, transaction, path, |view, path| {
            view.set_permissions(path, permissions)
        })
    }

    fn special(&self, path: &str) -> Result<Option<(SpecialNode, &PermissionList)>, StoreError> {
        if !path.starts_with('@') {
            return Ok(None);
        }
        let found = self
            .special_permissions
            .iter()
            .find(|(special, _)| special.name() == path);
        found
            .map(|(special, list)| Some((*special, list)))
            .ok_or(StoreError::InvalidArgument)
    }

    fn write(&mut self, id: ConnectionId, transaction: u32, payload: &[u8]) -> Answer {
        let end = payload
            .iter()
            .position(|byte| *byte == 0)
            .ok_or(StoreError::InvalidArgument)?;
        let (path, value) = (text(&payload[..end])?, &payload[end + 1..]);
        self.change_at(id, transaction, path, |view, path| view.write(path, value))
    }

    fn watch(&mut self, id: ConnectionId, payload: &[u8]) -> Answer {
        let [path, token] = exact_strings(payload)?;
        let connection = self.connections.get(&id).ok_or(StoreError::NoEntry)?;
        let caller = connection.caller;
        let subject = Subject::parse(path, caller.domain)?;
        if !caller.is_privileged() && self.watches.count(id) >= self.limits.watches {
            return Err(StoreError::TooBig);
        }
        let relative = !path.starts_with(['/', '@']);
        let home = relative.then(|| Path::home(caller.domain));
        self.watches.add(
            subject,
            Watch {
                connection: id,
                token: token.to_owned(),
                home,
            },
        )?;
        Ok(Reply::DoneThenEvent(path.to_owned(), token.to_owned()))
    }

    fn unwatch(&mut self, id: ConnectionId, payload: &[u8]) -> Answer {
        let [path, token] = exact_strings(payload)?;
        let caller = self.connections.get(&id).ok_or(StoreError::NoEntry)?.caller;
        self.watches
            .remove(id, &Subject::parse(path, caller.domain)?, token)
            .map(|()| Reply::Done)
    }

    fn reset(&mut self, id: ConnectionId) -> Answer {
        self.watches.remove_all(id);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.transactions.clear();
        }
        Ok(Reply::Done)
    }

    fn transaction_start(&mut self, id: ConnectionId, current: u32) -> Answer {
        let connection = self.connections.get_mut(&id).ok_or(StoreError::NoEntry)?;
        if current != 0 {
            return Err(StoreError::Busy);
        }
        if !connection.caller.is_privileged() && connection.transactions.len() >= self.limits.transactions {
            return Err(StoreError::NoSpace);
        }
        let number = connection.add_transaction(Transaction::begin(&self.tree));
        Ok(Reply::Bytes(format!("{number}\0").into_bytes()))
    }

    fn transaction_end(&mut self, id: ConnectionId, number: u32, payload: &[u8]) -> Answer {
        let commit = match exact_strings(payload)? {
            ["T"] => true,
            ["F"] => false,
            _ => return Err(StoreError::InvalidArgument),
        };
        let connection = self.connections.get_mut(&id).ok_or(StoreError::NoEntry)?;
        let transaction = connection
            .transactions
            .remove(&number)
            .ok_or(StoreError::NoEntry)?;
        if commit {
            let changes = transaction.commit(&mut self.tree, connection.caller, &self.limits)?;
            if self.fire(&changes) {
                self.penalise(id);
            }
        }
        Ok(Reply::Done)
    }
}

fn text(bytes: &[u8]) -> Result<&str, StoreError> {
    std::str::from_utf8(bytes).map_err(|_| StoreError::InvalidArgument)
}

fn error_payload(error: StoreError) -> Vec<u8> {
    format!("{}\0", error.name()).into_bytes()
}
