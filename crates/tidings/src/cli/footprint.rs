//! Gives back the memory that only the start needed.
//!
//! Owns: which pages these are. A start runs through code, tables and texts that lie all over the program's file, and
//! the kernel maps whatever lies around them as well; while nothing happens hardly any of it is used again. What is
//! given back comes back from the file, without anyone noticing, when it is used.
//! Never: touches memory that anything was written to.

use std::ops::Range;
use std::time::Duration;

/// When the start is long over, and whoever waited for it has been served.
const SETTLED: Duration = Duration::from_secs(1);

/// Gives it back a moment after the start. Where the kernel does not say what is mapped nothing happens.
pub async fn settle() {
    tokio::time::sleep(SETTLED).await;
    let Ok(Ok(mappings)) = tokio::task::spawn_blocking(|| std::fs::read_to_string("/proc/self/smaps")).await
    else {
        return;
    };
    for range in unwritten(&mappings) {
        give_back(range);
    }
}

#[cfg(target_os = "linux")]
fn give_back(range: Range<usize>) {
    // SAFETY: the range is a mapping of a file that cannot be written to, and holds no page that ever was: what a read
    // finds there afterwards is what the file says, as before. That a mapping has gone meanwhile is an error, or clean
    // pages of another file's: nothing here unmaps or maps files at this time.
    unsafe { libc::madvise(range.start as *mut libc::c_void, range.len(), libc::MADV_DONTNEED) };
}

#[cfg(not(target_os = "linux"))]
fn give_back(_: Range<usize>) {}

/// The mappings of files that can't be written to and never were: a page that was is no longer the file's.
fn unwritten(smaps: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = vec![];
    // Whether the lines are those of the last one found.
    let mut is_found = false;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        if let Some(mapping) = head(line) {
            is_found = mapping.is_some();
            found.extend(mapping);
        } else if is_found
            && matches!(words.next(), Some("Anonymous:" | "Swap:"))
            && words.next() != Some("0")
        {
            found.pop();
            is_found = false;
        }
    }
    found
}

/// The first line of a mapping, `FROM-TO PERMISSIONS OFFSET DEVICE INODE PATH`: its range, if it is of the right kind.
/// `None` where the line is none of these.
fn head(line: &str) -> Option<Option<Range<usize>>> {
    let mut words = line.split_ascii_whitespace();
    let (from, to) = words.next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let range = address(from)?..address(to)?;
    let permissions = words.next()?;
    let inode = words.nth(2)?;
    Some((matches!(permissions, "r--p" | "r-xp") && inode != "0").then_some(range))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_cannot_be_written_to_and_never_were_are_given_back() {
        let one = |permissions, inode, written, swapped| {
            format!(
                "55d0a0-55d0b0 {permissions} 00000000 fe:00 {inode} /usr/bin/x\nRss: 8 kB\nAnonymous: {written} kB\n\
                 Swap: {swapped} kB\nVmFlags: rd mr\n"
            )
        };
        let range: Vec<_> = std::iter::once(0x55d0a0..0x55d0b0).collect();
        let clean = one("r-xp", 7, 0, 0);
        assert_eq!(unwritten(&clean), range);
        assert_eq!(unwritten(&one("r--p", 7, 0, 0)), range);
        let others = [
            one("r--p", 7, 4, 0),
            one("r--p", 7, 0, 4),
            one("rw-p", 7, 0, 0),
            one("r--s", 7, 0, 0),
            one("r--p", 0, 0, 0),
            "VmFlags: rd ex\nx-y z\n".into(),
        ];
        for other in &others {
            assert!(unwritten(other).is_empty(), "{other}");
            assert_eq!(unwritten(&format!("{other}{clean}{other}")), range, "{other}");
        }
    }

    #[test]
    fn a_program_goes_on_after_its_pages_were_given_back() {
        let ranges = unwritten(&std::fs::read_to_string("/proc/self/smaps").unwrap());
        let code = a_program_goes_on_after_its_pages_were_given_back as *const () as usize;
        assert!(ranges.iter().any(|range| range.contains(&code)), "{code:x} {ranges:x?}");
        ranges.into_iter().for_each(give_back);
    }
}
