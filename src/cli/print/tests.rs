//! Tests of the layout.

use super::{Paint, columns, ms, utc, width_of, wrap};

#[test]
fn dates_of_leap_years_and_ends_of_years() {
    assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
    assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00 UTC");
    assert_eq!(utc(1_735_689_599_999), "2024-12-31 23:59:59 UTC");
    assert_eq!(utc(4_107_542_400_000), "2100-03-01 00:00:00 UTC");
}

#[test]
fn lengths_of_time_have_the_digits_that_matter() {
    let shown = [0, 9_100, 62_400, -113_400, 9_999_999, 83_000_000].map(ms);
    assert_eq!(shown, ["0 ms", "9.1 ms", "62 ms", "-113 ms", "9999 ms", "83.0 s"]);
}

#[test]
fn colour_takes_no_column() {
    let head = Paint::Colour.bad("CRITICAL");
    assert_eq!(width_of(&head), 8);
    let text = "word ".repeat(30);
    let plain = wrap("CRITICAL ", 4, &text);
    let coloured = wrap(&format!("{head} "), 4, &text);
    assert_eq!(coloured.replace("\x1b[1;31m", "").replace("\x1b[0m", ""), plain);
}

#[test]
fn long_texts_are_broken_and_indented() {
    let out = wrap("  head: ", 6, &"eleven char ".repeat(10));
    assert!(out.lines().all(|line| line.chars().count() <= super::WIDTH), "{out}");
    assert!(out.lines().skip(1).all(|line| line.find(|c| c != ' ') == Some(6)), "{out}");
}

#[test]
fn columns_that_are_empty_in_all_rows_are_left_out() {
    let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
    let lines = columns(1, &[row(["a", "", "c"]), row(["long", "", ""])]);
    assert_eq!(lines, [" a     c", " long"]);
}
