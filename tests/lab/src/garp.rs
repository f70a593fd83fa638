//! How do neighbours learn that an address has moved? By a gratuitous ARP request, sent here as one
//! raw frame: `arping` would take a second to return after it.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::error::{Context, Result};
use crate::keeper::malformed;

const ETHERTYPE_ARP: u16 = 0x0806;

/// Announces on an interface of this network namespace that it holds an address.
pub(crate) fn announce(interface: &str, address: Ipv4Addr) -> Result<()> {
    let mac = hardware_address(interface)?;
    let frame = frame(mac, address);
    send(interface, &frame).context(|| format!("announce {address} on {interface}"))
}

/// Asks `ip`, for `/sys` shows the machine's interfaces rather than the host's.
fn hardware_address(interface: &str) -> Result<[u8; 6]> {
    let mut show = std::process::Command::new("ip");
    show.args(["-o", "link", "show", "dev", interface]).env("PATH", crate::ns::PATH);
    let text = crate::install::run("find the hardware address", &mut show)?;
    let mut words = text.split_whitespace().skip_while(|word| *word != "link/ether");
    let mac = words.nth(1).unwrap_or_default();
    let bytes: Vec<u8> =
        mac.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    bytes.try_into().map_err(|_| malformed("find the hardware address", "six bytes", &text))
}

/// Ethernet header, then "who has ADDRESS, tell ADDRESS" from us.
fn frame(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(mac);
    frame.extend(ETHERTYPE_ARP.to_be_bytes());
    // Ethernet, IPv4, lengths 6 and 4, request.
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend(address.octets());
    frame.extend([0; 6]);
    frame.extend(address.octets());
    frame
}

fn send(interface: &str, frame: &[u8]) -> io::Result<()> {
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
    let index = nix::net::if_::if_nametoindex(interface)?;
    // SAFETY: an all-zero sockaddr_ll is a valid value of this plain C struct.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_protocol = ETHERTYPE_ARP.to_be();
    to.sll_ifindex = index as i32;
    to.sll_halen = 6;
    to.sll_addr[..6].fill(0xff);
    // SAFETY: the frame and the address live across the call, and their lengths are their own.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const to).cast(),
            size_of::<libc::sockaddr_ll>() as u32,
        )
    };
    if sent == frame.len() as isize { Ok(()) } else { Err(io::Error::last_os_error()) }
}
