//! Do the servers whose receivers are stopped hold everything that was acknowledged, and can the
//! old primaries acknowledge nothing more? (SAFETY section 1, invariants 4 and 7.)

use std::collections::BTreeSet;

use crate::model::{GtidSet, Regime, ServerName};

/// `recruits` are servers whose receivers were read back as stopped.
///
/// Revoked: fewer than `acks` ackers are left for the regime's primary. The same inequality says
/// that every set of `acks` ackers has a member among the recruits, so that together they have
/// received all that was acknowledged.
///
/// A primary that nobody began to open never acknowledged anything, and never will: the beginning
/// would be of an older epoch.
pub fn is_revoked(regime: &Regime, recruits: &BTreeSet<ServerName>) -> bool {
    if !regime.may_be_open {
        return true;
    }
    let stopped = |name: &&ServerName| recruits.contains(*name) || regime.recruited.contains(*name);
    let left = regime.ackers.iter().filter(|name| !stopped(name)).count();
    regime.acks > 0 && left < regime.acks as usize
}

/// Whether `recruits`, who together received `received`, hold all that the regime's primary can
/// have acknowledged.
///
/// Counting tells of the regime's own commits only: what its primary had before it was established
/// must be there, too. A regime that an earlier attempt covered already is held if what it was
/// closed with is.
pub fn is_covered(regime: &Regime, recruits: &BTreeSet<ServerName>, received: &GtidSet) -> bool {
    if let Some(closed_with) = &regime.closed_with {
        return closed_with.is_subset(received);
    }
    if !regime.may_be_open {
        return regime.base.is_subset(received);
    }
    let left = regime.ackers.iter().filter(|name| !recruits.contains(*name)).count();
    regime.acks > 0 && left < regime.acks as usize && regime.base.is_subset(received)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Epoch;

    fn names(names: &[&str]) -> BTreeSet<ServerName> {
        names.iter().map(|name| ServerName::from(*name)).collect()
    }

    fn regime(ackers: &[&str], acks: u32) -> Regime {
        Regime {
            primary: "db1".into(),
            epoch: Epoch(1),
            ackers: names(ackers),
            acks,
            base: GtidSet::empty(),
            may_be_open: true,
            is_open: true,
            recruited: BTreeSet::new(),
            closed_with: None,
        }
    }

    #[test]
    fn one_acknowledgement_of_two_ackers_needs_both() {
        let regime = regime(&["db2", "db3"], 1);
        assert!(is_revoked(&regime, &names(&["db2", "db3"])));
        assert!(!is_revoked(&regime, &names(&["db2"])));
        assert!(!is_covered(&regime, &names(&["db3"]), &GtidSet::empty()));
    }

    #[test]
    fn two_acknowledgements_of_four_ackers_need_three() {
        let regime = regime(&["db2", "db3", "db4", "db5"], 2);
        assert!(is_revoked(&regime, &names(&["db2", "db3", "db5"])));
        assert!(!is_revoked(&regime, &names(&["db2", "db3"])));
    }

    #[test]
    fn primary_that_nobody_began_to_open_needs_no_ackers_but_what_it_had() {
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let unopened = Regime {
            may_be_open: false,
            is_open: false,
            base: GtidSet::run(uuid, 1, 9),
            ..regime(&["db2", "db3"], 1)
        };
        assert!(is_revoked(&unopened, &names(&[])));
        assert!(is_covered(&unopened, &names(&[]), &GtidSet::run(uuid, 1, 9)));
        assert!(!is_covered(&unopened, &names(&["db2", "db3"]), &GtidSet::run(uuid, 1, 8)));
    }

    #[test]
    fn asynchronous_replication_is_never_revoked_or_covered_by_counting() {
        assert!(!is_revoked(&regime(&[], 0), &names(&["db2"])));
        assert!(!is_covered(&regime(&[], 0), &names(&["db2"]), &GtidSet::empty()));
    }

    #[test]
    fn what_the_primary_had_before_its_time_must_be_held_too() {
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let mut regime = regime(&["db2", "db3"], 1);
        regime.base = GtidSet::run(uuid, 1, 9);
        let recruits = names(&["db2", "db3"]);
        assert!(!is_covered(&regime, &recruits, &GtidSet::run(uuid, 1, 8)));
        assert!(is_covered(&regime, &recruits, &GtidSet::run(uuid, 1, 9)));
    }

    #[test]
    fn servers_recruited_before_still_revoke_but_what_they_hold_must_be_here() {
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let mut old = regime(&["db2", "db3"], 1);
        old.recruited = names(&["db2", "db3"]);
        old.closed_with = Some(GtidSet::run(uuid, 1, 9));
        assert!(is_revoked(&old, &names(&["db3"])));
        assert!(!is_covered(&old, &names(&["db3"]), &GtidSet::run(uuid, 1, 8)));
        assert!(is_covered(&old, &names(&["db3"]), &GtidSet::run(uuid, 1, 9)));
    }
}
