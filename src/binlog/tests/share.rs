//! Files to hand to a server.

use super::fixture::{Memory, golden, now, walk, walk_from};
use crate::binlog::*;

fn copy(files: &Memory, chain: &Chain, share: &Share) -> Result<Vec<u8>, FileFault> {
    let mut out = Vec::new();
    now(share.copy(files, chain, &mut out))?;
    assert_eq!(out.len() as u64, share.len());
    Ok(out)
}

#[test]
fn a_share_is_a_closed_file_of_one_format_and_the_wanted_bytes() {
    let names = ["mysql97.000001", "mysql97.000002"];
    let (files, chain) = Memory::of(&names);
    let found = now(from_position(&files, &chain, names[0], 2548)).unwrap();
    let [share] = &shares(&found)[..] else { panic!("one file") };
    let out = copy(&files, &chain, share).unwrap();
    let wanted = [&golden(names[0])[2548..3075], &golden(names[1])[245..808]].concat();
    assert_eq!(out[share.head.len()..], wanted);
    let mut verify = Verify::file_of(share.format.checksum);
    verify.push(&out).unwrap();
    verify.finish().unwrap();
    // The last file of a running server says that it is in use; this one does not.
    let [format] = &walk(&out[..share.head.len()]).unwrap().0[..] else { panic!("one event") };
    assert_eq!((format.header.flags, u64::from(format.header.end)), (0, format.end()));
}

#[test]
fn transactions_with_and_without_checksums_become_two_files() {
    let names = ["mysql97.000002", "mysql97.000003"];
    let (files, chain) = Memory::of(&names);
    let found = now(select(&files, &chain, Wanted::All)).unwrap();
    let made = shares(&found);
    let kinds: Vec<_> = made.iter().map(|share| share.format.checksum).collect();
    assert_eq!(kinds, [Checksum::Crc32, Checksum::Off]);
    for share in &made {
        let out = copy(&files, &chain, share).unwrap();
        let mut verify = Verify::events_of(share.format.checksum);
        verify.push(&out[share.head.len()..]).unwrap();
        verify.finish().unwrap();
        // End positions are those of the files they come from.
        let (events, ending) = walk_from(Walk::of_share(out.len() as u64), &out).unwrap();
        assert_eq!((events.len() as u64, ending), (verify.events() + 1, Ending::Clean));
    }
}

#[test]
fn a_flipped_bit_in_a_row_is_found_by_its_checksum() {
    let mut bytes = golden("mysql97.000002");
    bytes[765] ^= 0x10;
    let (files, chain) = Memory::with(vec![("flipped".into(), bytes)]);
    let found = now(select(&files, &chain, Wanted::All)).unwrap();
    let error = copy(&files, &chain, &shares(&found)[0]).unwrap_err();
    assert!(matches!(error.fault, Fault::BadChecksum { at: 730, .. }), "{error}");
}

#[test]
fn a_file_that_shrinks_while_it_is_copied_is_an_error() {
    let (files, chain) = Memory::of(&["mysql97.000002"]);
    let found = now(select(&files, &chain, Wanted::All)).unwrap();
    let cut = golden("mysql97.000002")[..700].to_vec();
    let (shrunk, _) = Memory::with(vec![("mysql97.000002".into(), cut)]);
    let error = copy(&shrunk, &chain, &shares(&found)[0]).unwrap_err();
    assert_eq!(error.fault, Fault::Short { at: 245, wanted: 563, found: 455 });
}
