//! Whose code a frame is, by its name.

/// What the kernel's frames end with: as perf tells where they are.
pub(super) const KERNEL: &str = "_[k]";

/// Crates that do what whoever calls them wants done: Rust's own, and those of collections.
const COLLECTIONS: [&str; 13] = [
    "std",
    "core",
    "core_arch",
    "alloc",
    "allocator_api2",
    "hashbrown",
    "slab",
    "smallvec",
    "bytes",
    "indexmap",
    "memchr",
    "parking_lot",
    "once_cell",
];

/// Whose code it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Kernel,
    Ours,
    Allocator,
    /// Another crate's.
    Library,
    /// Rust's own, the C library's, or nobody knows.
    System,
}

impl Place {
    pub(super) fn of(frame: &str) -> Self {
        if frame.ends_with(KERNEL) {
            return Self::Kernel;
        }
        match crate_of(frame) {
            _ if frame.contains("__rust_") && !frame.contains("backtrace") => Self::Allocator,
            Some(name) if name.starts_with("herenow") => Self::Ours,
            Some(name) if COLLECTIONS.contains(&name) => Self::System,
            Some("tikv_jemallocator" | "tikv_jemalloc_sys") => Self::Allocator,
            Some(_) => Self::Library,
            None if is_allocator(frame) => Self::Allocator,
            None => Self::System,
        }
    }
}

/// Whose time, or whose memory, a stack is: of the system call, the allocator, or the innermost crate that is no collection.
pub(super) fn whose(frames: &[String]) -> String {
    if let Some(call) = system_call(frames) {
        return call;
    }
    for frame in frames.iter().rev() {
        match Place::of(frame) {
            Place::Allocator => return "allocator".to_owned(),
            Place::Ours | Place::Library => return crate_of(frame).unwrap_or("unknown").to_owned(),
            Place::Kernel | Place::System => {}
        }
    }
    "unknown".to_owned()
}

/// The innermost function of a crate that is no collection; for who is in the kernel, the system call.
pub(super) fn site(frames: &[String]) -> String {
    system_call(frames)
        .or_else(|| frames.iter().rfind(|frame| is_named(frame)).cloned())
        .unwrap_or_else(|| frames.last().cloned().unwrap_or_default())
}

/// The site, how it asked for memory, and the innermost function of ours where the site is none.
pub(super) fn holder(frames: &[String]) -> String {
    let at = frames.iter().rposition(|frame| is_named(frame));
    let Some(at) = at else { return site(frames) };
    let how = frames.get(at + 1).map(|frame| format!(": `{}`", frame.rsplit("::").next().unwrap_or(frame)));
    let ours = frames[..at].iter().rfind(|frame| Place::of(frame) == Place::Ours);
    let ours = ours.filter(|_| Place::of(&frames[at]) != Place::Ours).map(|frame| format!(", for `{frame}`"));
    format!("`{}`{}{}", frames[at], how.unwrap_or_default(), ours.unwrap_or_default())
}

fn is_named(frame: &str) -> bool {
    matches!(Place::of(frame), Place::Ours | Place::Library)
}

/// What the kernel was asked for, if the innermost frame is its own.
fn system_call(frames: &[String]) -> Option<String> {
    if Place::of(frames.last()?) != Place::Kernel {
        return None;
    }
    let call = frames.iter().find_map(|frame| {
        let (_, name) = frame.strip_suffix(KERNEL)?.split_once("_sys_")?;
        Some(format!("kernel: {name}"))
    });
    Some(call.unwrap_or_else(|| "kernel: interrupts and scheduling".to_owned()))
}

/// A stack without what every stack has and what tells nothing: the steps of a system call, Rust's own frames but the
/// innermost, and how tokio comes to what it runs.
pub(super) fn readable(frames: &[String]) -> Vec<String> {
    let mut readable: Vec<String> = Vec::new();
    let run = frames.iter().rposition(|frame| is_named(frame) && !is_runtime(frame)).unwrap_or(0);
    for (index, frame) in frames.iter().enumerate() {
        let tells = match Place::of(frame) {
            Place::System => index == 0 || index + 1 == frames.len(),
            Place::Kernel => !STEPS.contains(&frame.as_str()),
            Place::Library => index > run || !is_runtime(frame),
            Place::Ours | Place::Allocator => true,
        };
        if tells && readable.last() != Some(frame) {
            readable.push(frame.clone());
        }
    }
    readable
}

fn is_runtime(frame: &str) -> bool {
    ["tokio::runtime::", "tokio::task::", "tokio::util::", "tokio::loom::"]
        .iter()
        .any(|start| frame.starts_with(start))
}

/// On the way into the kernel.
const STEPS: [&str; 4] =
    ["entry_SYSCALL_64_after_hwframe_[k]", "entry_SYSCALL_64_[k]", "do_syscall_64_[k]", "x64_sys_call_[k]"];

/// The crate of a Rust name: `<tokio::net::TcpStream as AsyncRead>::poll_read` is tokio's.
pub(super) fn crate_of(frame: &str) -> Option<&str> {
    let name = frame.trim_start_matches(|c: char| "<&*([".contains(c));
    let name = ["dyn ", "mut ", "const "].iter().fold(name, |name, word| name.trim_start_matches(word));
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    name[end..].starts_with("::").then(|| &name[..end])
}

/// What jemalloc's functions begin with.
fn is_allocator(frame: &str) -> bool {
    let starts = [
        "_rjem_",
        "je_",
        "malloc",
        "calloc",
        "realloc",
        "free",
        "posix_memalign",
        "aligned_alloc",
        "sdallocx",
        "rallocx",
        "irallocx",
        "mallocx",
        "imalloc",
        "ifree",
        "isfree",
        "arena_",
        "tcache_",
        "prof_",
        "extent_",
        "large_",
        "pac_",
        "pa_",
        "hpa_",
        "edata_",
        "emap_",
        "ehooks_",
        "base_",
        "tsd_",
        "te_",
        "cache_bin_",
        "eset_",
        "ecache_",
        "sec_",
        "bin_",
        "sz_",
        "rtree_",
        "pages_",
        "os_pages_",
        "background_thread",
        "do_rallocx",
        "newImpl",
        "__rust_alloc",
        "__rust_dealloc",
        "__rust_realloc",
        "__rdl_",
        "__rg_",
        "fallback_",
        "iralloc",
        "iallocztm",
        "idalloctm",
    ];
    starts.iter().any(|start| frame.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(frames: &str) -> Vec<String> {
        frames.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_crate_is_that_of_the_type_or_of_the_path() {
        assert_eq!(crate_of("tokio::runtime::park"), Some("tokio"));
        assert_eq!(crate_of("<herenow_gateway_core::Gateway>::handle"), Some("herenow_gateway_core"));
        assert_eq!(crate_of("<&mut serde_json::Deserializer as serde::Deserializer>::x"), Some("serde_json"));
        assert_eq!(crate_of("epoll_wait"), None);
        assert_eq!(crate_of("[unknown]"), None);
    }

    #[test]
    fn a_frame_has_an_owner() {
        for (frame, place) in [
            ("tcp_sendmsg_[k]", Place::Kernel),
            ("herenow_gateway_core::deliver::flush", Place::Ours),
            ("_rjem_je_malloc_default", Place::Allocator),
            ("__rust_alloc", Place::Allocator),
            ("herenow::__rust_alloc", Place::Allocator),
            ("serde_json::de::from_str", Place::Library),
            ("core::ops::function::FnOnce::call_once", Place::System),
            ("memmove", Place::System),
        ] {
            assert_eq!(Place::of(frame), place, "{frame}");
        }
    }

    #[test]
    fn time_is_the_system_calls_or_the_innermost_crates() {
        let whose = |frames: &str| whose(&stack(frames));
        assert_eq!(whose("t tokio::a send do_syscall_64_[k] __x64_sys_sendto_[k] tcp_[k]"), "kernel: sendto");
        assert_eq!(whose("t tokio::a asm_sysvec_[k]"), "kernel: interrupts and scheduling");
        assert_eq!(whose("t herenow_gateway_core::turn alloc::vec::push memmove"), "herenow_gateway_core");
        assert_eq!(whose("t herenow_gateway_core::turn alloc::vec::push malloc arena_x"), "allocator");
        assert_eq!(whose("t memmove"), "unknown");
    }

    #[test]
    fn memory_is_told_with_who_asked_for_it_and_how() {
        let holder = |frames: &str| holder(&stack(frames));
        let add = holder("t herenow_gateway_core::watch::add alloc::vec::push<Watched> alloc::grow");
        assert_eq!(add, "`herenow_gateway_core::watch::add`: `push<Watched>`");
        let channel = holder("t herenow_bus::subscribe tokio::sync::mpsc::channel");
        assert_eq!(channel, "`tokio::sync::mpsc::channel`, for `herenow_bus::subscribe`");
    }

    #[test]
    fn what_tells_nothing_is_left_out() {
        let frames = "thread std::rt::start core::call herenow::main do_syscall_64_[k] tcp_[k]";
        assert_eq!(readable(&stack(frames)), ["thread", "herenow::main", "tcp_[k]"]);
        assert_eq!(
            readable(&stack("thread a::b a::b core::ptr::copy")),
            ["thread", "a::b", "core::ptr::copy"]
        );
    }
}
