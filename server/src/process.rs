//! What the system knows of this process.

use std::{
    fs,
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

/// When it began, as far as anybody has asked: call it early.
pub(crate) fn started_at() -> SystemTime {
    static STARTED: OnceLock<SystemTime> = OnceLock::new();
    *STARTED.get_or_init(SystemTime::now)
}

/// The same in seconds since 1970, as metrics have it.
pub(crate) fn start_seconds() -> u64 {
    started_at().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Bytes of its memory that are in use just now; `None` where the system has no such list.
pub(crate) fn resident_bytes() -> Option<u64> {
    resident_of(&fs::read_to_string("/proc/self/status").ok()?)
}

fn resident_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resident_memory_is_found_among_the_rest() {
        let status = "Name:\tserver\nVmHWM:\t  999 kB\nVmRSS:\t   1536 kB\nThreads:\t7\n";
        assert_eq!(resident_of(status), Some(1536 << 10));
        assert_eq!(resident_of("Name:\tserver\n"), None);
    }
}
