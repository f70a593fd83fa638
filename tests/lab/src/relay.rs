//! How does a packet arrive late? The kernel's own delay queue is not in every kernel, so a process
//! is put into the host's cables.
//!
//! ```text
//!   host                router
//!   eth0 ---veth--- m1-w  <packet socket>  relay  <tap>  m1 --- bridge
//! ```
//!
//! The tap takes over the port's name, so all rules about the port hold as before. Frames keep
//! their order. Checksum and segmentation hints travel along, so nothing on the host changes. The
//! relay stays until the host's power is cut; with a delay of zero it costs some 50 us a packet.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::error::{Context, Result};
use crate::host::Host;
use crate::keeper::{ip_batch, malformed};
use crate::lab::{Files, Lab};
use crate::spec::Place;

/// The longest delay that makes sense: beyond it, connections break.
const MAX_MS: u64 = 60_000;
/// Frames under way in one direction; more are lost, as in a router's full queue.
const QUEUE: usize = 4096;
/// A frame with segmentation hints can be this long, its header included.
const FRAME: usize = 65_536 + 64;
/// From linux/if_packet.h; the libc crate has no names for them.
const PACKET_VNET_HDR: i32 = 15;
const PACKET_IGNORE_OUTGOING: i32 = 23;

/// Name of the host's end of a cable in the router once a relay sits in it.
fn wire(port: &str) -> String {
    format!("{port}-w")
}

fn control(files: &Files, host: &str) -> PathBuf {
    files.host(host).join("relay.sock")
}

impl Lab {
    /// Delays every packet to the host and every packet from it by so many milliseconds: a round
    /// trip takes twice as long. The first time, the host's cables are unplugged for some
    /// milliseconds. Zero ends the delay; so does a power-off.
    ///
    /// # Errors
    /// The host is off, or more than a minute was asked for.
    pub fn delay(&self, host: &str, ms: u64) -> Result<()> {
        let host = self.host(host)?;
        if ms > MAX_MS {
            let what = format!("delay {}", host.name());
            return Err(malformed(&what, "0 to 60000 ms", &ms.to_string()));
        }
        host.namespaces()?;
        if tell(self.files(), &host.name(), &ms.to_string()) { Ok(()) } else { host.plug_relay(ms) }
    }
}

/// Tells a host's relay something; `false` if there is none.
fn tell(files: &Files, host: &str, word: &str) -> bool {
    let said = || -> io::Result<()> {
        let mut stream = UnixStream::connect(control(files, host))?;
        writeln!(stream, "{word}")?;
        // It closes the connection when it has done what it was told.
        stream.read_to_end(&mut Vec::new()).map(|_| ())
    };
    said().is_ok()
}

impl Host {
    fn plug_relay(&self, ms: u64) -> Result<()> {
        let shared = self.shared();
        let what = || format!("delay {}", self.name());
        let log_path = self.dir().join("log/relay.log");
        let log = File::create(&log_path).context(|| format!("open {}", log_path.display()))?;
        let mut command = Command::new(&shared.bin);
        command.arg("relay").arg(shared.files.root()).arg(self.name()).arg(ms.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut relay = shared.keeper.spawn(&mut command).context(what)?;
        let mut line = String::new();
        let stdout = relay.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line).context(what)?;
        // It ends with the host's power or with the lab; whoever is its parent then takes note.
        thread::spawn(move || relay.wait());
        if line.trim_end() == "plugged" {
            return Ok(());
        }
        let found = fs::read_to_string(&log_path).unwrap_or_default();
        Err(malformed(&what(), "a relay in its cables", found.trim()))
    }

    /// Takes the relay out, if there is one; the cables' ends stay.
    pub(crate) fn unplug_relay(&self) {
        let _ = tell(&self.shared().files, &self.name(), "quit");
    }
}

/// Body of the hidden command `relay`: runs in the router's network until it is told to quit.
///
/// # Errors
/// A cable's end, a tap or the control socket could not be made.
pub fn run(root: &Path, host: &str, ms: u64) -> Result<()> {
    let files = Files::new(root);
    let place = files.read_spec()?.place(host)?;
    let delay_us = Arc::new(AtomicU64::new(ms * 1000));
    for (port, bridge) in place.ports().iter().zip(place.bridges()) {
        let (tap, wire) = plug(port, &bridge).context(|| format!("plug into {port}"))?;
        let twin = |fd: &OwnedFd| fd.try_clone().context(|| "share a descriptor".into());
        carry(twin(&wire)?, twin(&tap)?, Arc::clone(&delay_us));
        carry(tap, wire, Arc::clone(&delay_us));
    }
    let path = control(&files, host);
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(&path).context(|| format!("bind {}", path.display()))?;
    println!("plugged");
    for stream in listener.incoming() {
        let stream = stream.context(|| "accept on the control socket".into())?;
        let mut word = String::new();
        BufReader::new(&stream)
            .read_line(&mut word)
            .context(|| "read the control socket".into())?;
        match word.trim_end() {
            "quit" => {
                let _ = fs::remove_file(&path);
                break;
            }
            ms => {
                let ms: u64 = ms.parse().map_err(|_| malformed("set the delay", "ms", ms))?;
                delay_us.store(ms * 1000, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}

/// Renames the cable's end, puts a tap in its place, and opens both.
fn plug(port: &str, bridge: &str) -> io::Result<(OwnedFd, OwnedFd)> {
    let wire_name = wire(port);
    // Without ARP the router does not answer on the bare cable in its own name.
    ip(&format!(
        "link set dev {port} down\nlink set dev {port} nomaster\n\
         link set dev {port} name {wire_name}\nlink set dev {wire_name} arp off promisc on up\n"
    ))?;
    let tap = open_tap(port)?;
    ip(&format!("link set dev {port} master {bridge}\nlink set dev {port} up\n"))?;
    Ok((tap, open_wire(&wire_name)?))
}

fn ip(batch: &str) -> io::Result<()> {
    ip_batch(batch).map_err(io::Error::other)
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A tap that carries checksum and segmentation hints in front of each frame.
fn open_tap(name: &str) -> io::Result<OwnedFd> {
    let tap = File::options().read(true).write(true).open("/dev/net/tun")?;
    // struct ifreq: 16 bytes of name, then the flags.
    let mut request = [0_u8; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    let flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as u16;
    request[16..18].copy_from_slice(&flags.to_ne_bytes());
    // SAFETY: the kernel reads and writes one ifreq, which is no longer than 40 bytes.
    check(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETIFF, request.as_mut_ptr()) })?;
    let offloads = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
    // SAFETY: this request takes its argument by value.
    check(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETOFFLOAD, offloads as libc::c_ulong) })?;
    Ok(tap.into())
}

/// A packet socket on one interface, with the same hints, deaf to what it sends itself.
fn open_wire(name: &str) -> io::Result<OwnedFd> {
    let wire = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
    for option in [PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING] {
        let on: i32 = 1;
        // SAFETY: the kernel reads an int of that length.
        check(unsafe {
            let length = size_of::<i32>() as u32;
            let on = (&raw const on).cast();
            libc::setsockopt(wire.as_raw_fd(), libc::SOL_PACKET, option, on, length)
        })?;
    }
    // SAFETY: an all-zero sockaddr_ll is a valid value of this plain C struct.
    let mut at: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    at.sll_family = libc::AF_PACKET as u16;
    at.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    at.sll_ifindex = nix::net::if_::if_nametoindex(name)? as i32;
    // SAFETY: the address lives across the call, and the length is its own.
    check(unsafe {
        let length = size_of::<libc::sockaddr_ll>() as u32;
        libc::bind(wire.as_raw_fd(), (&raw const at).cast(), length)
    })?;
    Ok(wire)
}

/// Carries frames from one descriptor to the other, each delayed by what is set when it comes in.
/// Both threads end with the process.
fn carry(from: OwnedFd, to: OwnedFd, delay_us: Arc<AtomicU64>) {
    let (queue, queued) = sync_channel(QUEUE);
    thread::spawn(move || take_in(&mut File::from(from), &queue, &delay_us));
    thread::spawn(move || put_out(&mut File::from(to), &queued));
}

fn take_in(from: &mut File, queue: &SyncSender<(Instant, Vec<u8>)>, delay_us: &AtomicU64) {
    let mut buffer = vec![0; FRAME];
    loop {
        // An error here is an interface that is down: nothing can come in until it is up again.
        let Ok(length) = from.read(&mut buffer) else {
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        let due = Instant::now() + Duration::from_micros(delay_us.load(Ordering::Relaxed));
        match queue.try_send((due, buffer[..length].to_vec())) {
            // A full queue loses the frame.
            Ok(()) | Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => return,
        }
    }
}

fn put_out(to: &mut File, queued: &Receiver<(Instant, Vec<u8>)>) {
    for (due, frame) in queued {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // An interface that is down loses the frame, as a cable would.
        let _ = to.write(&frame);
    }
}

/// The cables' ends that a relay leaves behind.
pub(crate) fn wires(place: Place) -> [String; 2] {
    place.ports().map(|port| wire(&port))
}
