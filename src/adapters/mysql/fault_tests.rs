use mysql_async::ServerError;

use super::*;

pub(crate) fn server(code: u16) -> Error {
    let (message, state) = ("words".to_owned(), "HY000".to_owned());
    Error::Server(ServerError { code, message, state })
}

fn io(kind: ErrorKind) -> Error {
    Error::Io(IoError::Io(kind.into()))
}

#[test]
fn the_kernel_speaks_for_a_dead_process() {
    for kind in [
        ErrorKind::ConnectionRefused,
        ErrorKind::ConnectionReset,
        ErrorKind::BrokenPipe,
        ErrorKind::UnexpectedEof,
    ] {
        assert_eq!(trouble(&io(kind)), Trouble::Refused, "{kind:?}");
    }
    assert_eq!(trouble(&Error::Driver(DriverError::ConnectionClosed)), Trouble::Refused);
}

#[test]
fn a_missing_route_is_silence_not_death() {
    for kind in [ErrorKind::TimedOut, ErrorKind::HostUnreachable, ErrorKind::NetworkUnreachable] {
        assert_eq!(trouble(&io(kind)), Trouble::Silent, "{kind:?}");
    }
}

#[test]
fn our_own_shortages_are_local() {
    for kind in [ErrorKind::AddrNotAvailable, ErrorKind::PermissionDenied, ErrorKind::OutOfMemory] {
        assert_eq!(trouble(&io(kind)), Trouble::Local, "{kind:?}");
    }
}

#[test]
fn logins_and_privileges_are_denied_all_else_is_answered() {
    for code in [1044, 1045, 1130, 1129, 1227, 1698, 3118] {
        assert_eq!(trouble(&server(code)), Trouble::Denied, "{code}");
    }
    for code in [1040, 1064, 1193, 1205, 1290, 3032] {
        assert_eq!(trouble(&server(code)), Trouble::Answered, "{code}");
    }
}

#[test]
fn only_an_error_from_the_server_proves_that_nothing_was_done() {
    assert_eq!(Fault::Error(server(1290)).certainty(), Certainty::NotDone);
    assert_eq!(Fault::Error(server(1205)).certainty(), Certainty::NotDone);
    assert_eq!(Fault::Error(server(1317)).certainty(), Certainty::Unknown);
    assert_eq!(Fault::Error(server(1053)).certainty(), Certainty::Unknown);
    assert_eq!(Fault::Late.certainty(), Certainty::Unknown);
    assert_eq!(Fault::Gone.certainty(), Certainty::NotDone);
    assert_eq!(Fault::Error(io(ErrorKind::UnexpectedEof)).certainty(), Certainty::Unknown);
}

#[test]
fn payloads_are_not_quoted() {
    let error = Error::Driver(DriverError::UnexpectedPacket { payload: b"hush".to_vec() });
    assert_eq!(sentence(&error), "a malformed reply");
    assert_eq!(sentence(&server(1290)), "error 1290 (words)");
}
