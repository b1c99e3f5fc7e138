//! The `bpf` system call, as far as aya does not offer it.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use aya_obj::generated::{
    BPF_F_TEST_XDP_LIVE_FRAMES, bpf_attr__bindgen_ty_3 as BatchAttr, bpf_attr__bindgen_ty_9 as InfoAttr,
    bpf_cmd, bpf_func_id, bpf_link_info, bpf_map_info, bpf_prog_info, bpf_prog_type,
};
use bytemuck::Pod;

/// `BPF_NOEXIST`: only make a new entry.
pub(super) const NOEXIST: u64 = 1;
/// `BPF_F_BEFORE` without a relative program: first of the hook.
pub(super) const FIRST: u32 = 1 << 3;
/// `BPF_F_AFTER` without a relative program: last of the hook.
pub(super) const LAST: u32 = 1 << 4;
/// `XDP_FLAGS_DRV_MODE`: by the driver, or not at all.
pub(super) const NATIVE: u32 = 1 << 2;

// The kernel refuses bytes beyond the fields it knows unless they are zero, and the padding that ends some generated
// structs is not: those parts of `union bpf_attr` are declared here, without padding.

/// `struct { pathname, bpf_fd, file_flags }` of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct ObjAttr {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// `struct { map_fd, key, value, flags }` of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct ElemAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `link_create` of `union bpf_attr` with its `tcx` part.
#[repr(C)]
#[derive(Default)]
struct LinkCreateAttr {
    prog_fd: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    pad: u32,
    expected_revision: u64,
}

/// `link_update` of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct LinkUpdateAttr {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

/// `test` of `union bpf_attr`, up to all that the kernel writes: results go to their places there, however short the
/// size that it is given.
#[repr(C)]
#[derive(Default)]
struct TestAttr {
    prog_fd: u32,
    retval: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    pad: u32,
}

/// `query` of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    count: u32,
    pad: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// The start of `struct { prog_type, .. }` of `union bpf_attr`.
#[repr(C)]
struct ProgLoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
}

/// Kinds of objects that `BPF_OBJ_GET_INFO_BY_FD` describes.
///
/// # Safety
/// Implementors are plain old data for which all zeros is a value, and are what the kernel writes for their kind.
pub(super) unsafe trait Info: Sized {}
// SAFETY: generated from the kernel's header; integers, arrays and unions of such only.
unsafe impl Info for bpf_map_info {}
// SAFETY: as above.
unsafe impl Info for bpf_link_info {}
// SAFETY: as above.
unsafe impl Info for bpf_prog_info {}

/// # Safety
/// `attr` is the part of `union bpf_attr` that `cmd` reads and writes (it writes beyond the given size), and every
/// address in it is valid for what `cmd` does to it.
unsafe fn bpf<A>(cmd: bpf_cmd, attr: &mut A) -> io::Result<i32> {
    // SAFETY: the caller vouches for the contents; the kernel takes what lies beyond the given size as zeros.
    let ret = unsafe { libc::syscall(libc::SYS_bpf, cmd as i32, std::ptr::from_mut(attr), size_of::<A>()) };
    if ret < 0 {
        Err(io::Error::last_os_error())
    } else {
        // Descriptors, or 0: never beyond an i32.
        Ok(ret as i32)
    }
}

/// # Safety
/// As [`bpf`], and `cmd` is one that returns a new descriptor.
unsafe fn bpf_fd<A>(cmd: bpf_cmd, attr: &mut A) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { bpf(cmd, attr) }?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    // A descriptor that is open is never negative.
    fd.as_raw_fd().unsigned_abs()
}

fn addr<T: ?Sized>(of: &T) -> u64 {
    std::ptr::from_ref(of).cast::<u8>() as u64
}

fn addr_mut<T: ?Sized>(of: &mut T) -> u64 {
    std::ptr::from_mut(of).cast::<u8>() as u64
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Opens what is pinned at `path`.
pub(super) fn obj_get(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut attr = ObjAttr { pathname: path.as_ptr() as u64, ..ObjAttr::default() };
    // SAFETY: the path is a C string that outlives the call.
    unsafe { bpf_fd(bpf_cmd::BPF_OBJ_GET, &mut attr) }
}

/// Pins `fd` at `path`.
pub(super) fn obj_pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attr = ObjAttr { pathname: path.as_ptr() as u64, bpf_fd: raw(fd), file_flags: 0 };
    // SAFETY: the path is a C string that outlives the call.
    unsafe { bpf(bpf_cmd::BPF_OBJ_PIN, &mut attr) }.map(drop)
}

/// What the kernel tells about the map, program or link behind `fd`.
pub(super) fn info<T: Info>(fd: BorrowedFd<'_>) -> io::Result<T> {
    // SAFETY: all zeros is a value of every `Info`.
    let mut info: T = unsafe { std::mem::zeroed() };
    let mut attr = InfoAttr { bpf_fd: raw(fd), info_len: size_of::<T>() as u32, info: addr_mut(&mut info) };
    // SAFETY: the kernel writes at most `info_len` bytes, which `info` has.
    unsafe { bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr) }?;
    Ok(info)
}

/// Reads the value of `key` into `value`, whose size is the map's value size (per-CPU maps: times the CPUs).
pub(super) fn lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<()> {
    let mut attr =
        ElemAttr { map_fd: raw(map), key: addr(key), value: addr_mut(value), ..ElemAttr::default() };
    // SAFETY: key and value live through the call; their sizes were compared with the map's when it was opened.
    unsafe { bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr) }.map(drop)
}

/// Sets the value of `key`; `flags` as of `BPF_MAP_UPDATE_ELEM`.
pub(super) fn update(map: BorrowedFd<'_>, key: &[u8], value: &[u8], flags: u64) -> io::Result<()> {
    let mut attr = ElemAttr { map_fd: raw(map), pad: 0, key: addr(key), value: addr(value), flags };
    // SAFETY: key and value live through the call; their sizes were compared with the map's when it was opened.
    unsafe { bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr) }.map(drop)
}

/// Removes `key`.
pub(super) fn delete(map: BorrowedFd<'_>, key: &[u8]) -> io::Result<()> {
    let mut attr = ElemAttr { map_fd: raw(map), key: addr(key), ..ElemAttr::default() };
    // SAFETY: the key lives through the call; its size was compared with the map's when it was opened.
    unsafe { bpf(bpf_cmd::BPF_MAP_DELETE_ELEM, &mut attr) }.map(drop)
}

/// Where a walk goes on: the number of a bucket in a hash, the last key in a trie.
#[derive(Default)]
pub(super) struct Cursor {
    position: Vec<u8>,
    begun: bool,
}

/// Reads a trie, or whole buckets of a hash, into `keys` and `values`, of equal length, as many as fit; returns the number of
/// entries and whether those were the last. `ENOSPC`: the next bucket alone does not fit.
pub(super) fn lookup_batch<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    cursor: &mut Cursor,
    keys: &mut [K],
    values: &mut [V],
) -> io::Result<(usize, bool)> {
    debug_assert_eq!(keys.len(), values.len());
    cursor.position.resize(size_of::<K>().max(size_of::<u32>()), 0);
    let from = cursor.position.clone();
    let mut attr = BatchAttr {
        in_batch: if cursor.begun { addr(from.as_slice()) } else { 0 },
        out_batch: addr_mut(cursor.position.as_mut_slice()),
        keys: addr_mut(keys),
        values: addr_mut(values),
        count: keys.len().min(values.len()) as u32,
        map_fd: raw(map),
        elem_flags: 0,
        flags: 0,
    };
    // SAFETY: the buffers hold `count` elements each of the map's key and value size, compared when it was opened; a
    // hash takes a u32 as the position, a trie a key, and both positions have room for either.
    let last = match unsafe { bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr) } {
        Ok(_) => false,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
        Err(error) => return Err(error),
    };
    cursor.begun = true;
    Ok((attr.count as usize, last))
}

/// Attaches `prog` to `target`: a cgroup's descriptor or an interface's index. `flags`: [`FIRST`] or [`LAST`] for tcx,
/// [`NATIVE`] for XDP.
pub(super) fn link_create(
    prog: BorrowedFd<'_>,
    target: u32,
    attach_type: u32,
    flags: u32,
) -> io::Result<OwnedFd> {
    let mut attr =
        LinkCreateAttr { prog_fd: raw(prog), target, attach_type, flags, ..LinkCreateAttr::default() };
    // SAFETY: no addresses in it.
    unsafe { bpf_fd(bpf_cmd::BPF_LINK_CREATE, &mut attr) }
}

/// Puts `prog` in the place of the link's program, atomically.
pub(super) fn link_update(link: BorrowedFd<'_>, prog: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = LinkUpdateAttr { link_fd: raw(link), new_prog_fd: raw(prog), ..LinkUpdateAttr::default() };
    // SAFETY: no addresses in it.
    unsafe { bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attr) }.map(drop)
}

/// Detaches the link's program, whoever else holds the link.
pub(super) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no addresses in it.
    unsafe { bpf(bpf_cmd::BPF_LINK_DETACH, &mut raw(link)) }.map(drop)
}

/// Ids of the programs on the hook `attach_type` of `target`, a descriptor of a cgroup or the index of an interface, in
/// the order in which they run. `effective`: of a cgroup, those of its ancestors too.
pub(super) fn prog_query(target: u32, attach_type: u32, effective: bool) -> io::Result<Vec<u32>> {
    // More than the kernel allows on any hook (64).
    let mut ids = [0u32; 128];
    let mut attr = QueryAttr {
        target,
        attach_type,
        query_flags: u32::from(effective),
        prog_ids: addr_mut(&mut ids),
        count: ids.len() as u32,
        ..QueryAttr::default()
    };
    // SAFETY: the kernel writes at most `count` ids, and the array outlives the call.
    unsafe { bpf(bpf_cmd::BPF_PROG_QUERY, &mut attr) }?;
    Ok(ids.into_iter().take(attr.count as usize).collect())
}

/// The program with this id.
pub(super) fn prog_by_id(id: u32) -> io::Result<OwnedFd> {
    // The id is the first field of this part of `union bpf_attr`.
    let mut attr = [id, 0, 0];
    // SAFETY: no addresses in it.
    unsafe { bpf_fd(bpf_cmd::BPF_PROG_GET_FD_BY_ID, &mut attr) }
}

/// How a program is run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trial<'a> {
    /// Its packet, with an Ethernet header; a raw tracepoint takes none.
    pub(super) data: &'a [u8],
    /// Its context, or the part of it that the kernel takes; empty: none.
    pub(super) context: &'a [u8],
    /// How often; 0: once.
    pub(super) repeat: u32,
    /// Whether the frames are real ones, which go where the program sends them: `BPF_F_TEST_XDP_LIVE_FRAMES` (Linux 5.18).
    pub(super) live: bool,
}

/// What a program returned at last, and how many nanoseconds a run took.
pub(super) fn trial(prog: BorrowedFd<'_>, trial: &Trial<'_>) -> io::Result<(u32, u32)> {
    let place = |bytes: &[u8]| if bytes.is_empty() { 0 } else { addr(bytes) };
    let mut attr = TestAttr {
        prog_fd: raw(prog),
        size_in: trial.data.len() as u32,
        data_in: place(trial.data),
        repeat: trial.repeat,
        context_size_in: trial.context.len() as u32,
        context_in: place(trial.context),
        flags: if trial.live { BPF_F_TEST_XDP_LIVE_FRAMES } else { 0 },
        ..TestAttr::default()
    };
    // SAFETY: data and context are only read, and outlive the call.
    unsafe { bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr) }?;
    Ok((attr.retval, attr.duration))
}

/// Runs `prog` once and returns what it returned.
pub(super) fn test_run(prog: BorrowedFd<'_>, data: &[u8]) -> io::Result<u32> {
    Ok(trial(prog, &Trial { data, ..Trial::default() })?.0)
}

/// Loads a classifier that returns what `bpf_l4_csum_replace` says to `BPF_F_IPV6` on a change of nothing.
pub(super) fn csum_trial() -> io::Result<OwnedFd> {
    const MOV_IMM: u8 = 0xb7;
    const CALL: u8 = 0x85;
    const EXIT: u8 = 0x95;
    // Opcode, destination register, immediate. The context stays in register 1.
    let code = [
        (MOV_IMM, 2, 0),
        (MOV_IMM, 3, 0),
        (MOV_IMM, 4, 0),
        (MOV_IMM, 5, 0x80),
        (CALL, 0, bpf_func_id::BPF_FUNC_l4_csum_replace as i32),
        (EXIT, 0, 0),
    ]
    .map(|(opcode, register, imm): (u8, u8, i32)| {
        let [a, b, c, d] = imm.to_ne_bytes();
        [opcode, register, 0, 0, a, b, c, d]
    });
    let license = c"MIT";
    let mut attr = ProgLoadAttr {
        prog_type: bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS as u32,
        insn_cnt: code.len() as u32,
        insns: addr(&code),
        license: license.as_ptr() as u64,
    };
    // SAFETY: instructions and licence outlive the call.
    unsafe { bpf_fd(bpf_cmd::BPF_PROG_LOAD, &mut attr) }
}

/// The cookie of the network namespace of `socket`.
pub(super) fn netns_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = 0u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, which the cookie has.
    let ret = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            std::ptr::from_mut(&mut cookie).cast(),
            &mut len,
        )
    };
    if ret == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}
