//! The programs: drop and count RTP for ports that do not hear, and pass all else.

use super::asm::{Assembler, If, Instruction, Reg, Width};

/// What XDP does with a frame (`enum xdp_action`).
const XDP_DROP: i32 = 1;
const XDP_PASS: i32 = 2;
/// Helper 1 of `bpf-helpers(7)`: R1 the map, R2 the key's address; R0 the value's, or null.
const MAP_LOOKUP_ELEM: i32 = 1;
/// Helper 26: R1 the context, R2 an offset, R3 where to, R4 how many; R0 zero, or an error.
const SKB_LOAD_BYTES: i32 = 26;
/// What the sending end does with a message (`enum tcx_action_base`).
const TCX_NEXT: i32 = -1;
const TCX_DROP: i32 = 2;
/// `gso_segs` of `struct __sk_buff`: datagrams of a message, 0 for a single one.
const GSO_SEGMENTS_OFFSET: i16 = 164;
/// Where on the stack the second program copies the headers to.
const COPY_OFFSET: i16 = -48;
const _: () = assert!(LOOKED_AT_BYTES + 4 <= -(COPY_OFFSET as i32), "the map's key lies above");

/// Bytes of Ethernet, IPv4 without options, UDP, and the two bytes looked at behind them.
const LOOKED_AT_BYTES: i32 = 14 + 20 + 8 + 2;
const ETHERTYPE_OFFSET: i16 = 12;
const VERSION_OFFSET: i16 = 14;
const FRAGMENT_OFFSET: i16 = 20;
const PROTOCOL_OFFSET: i16 = 23;
const PORT_OFFSET: i16 = 36;
const UDP_LENGTH_OFFSET: i16 = 38;
const PAYLOAD_OFFSET: i16 = 42;
const UDP_HEADER_BYTES: i32 = 8;

/// Bytes of the counters' value: packets, then UDP payload bytes, both u64.
pub const COUNTERS_BYTES: u32 = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum To {
    Rtp,
    Counted,
    Pass,
}

/// For the receiving end (XDP), where each datagram is a frame. `hears` is an array of 65,536 bytes
/// by destination port, `dropped` a per-CPU array of one value of [`COUNTERS_BYTES`].
pub fn receiving(hears: i32, dropped: i32) -> Vec<Instruction> {
    use {If::*, Reg::*, Width::*};
    let mut code = Assembler::new();
    // R2 the frame, R3 its end: the verifier wants each byte that is read proved to lie before it.
    code.load(Word, R2, R1, 0).load(Word, R3, R1, 4);
    code.copy(R4, R2).add(R4, LOOKED_AT_BYTES).jump_if_register(R4, Greater, R3, To::Pass);
    look_at(&mut code, R2, 0);
    look_up_port(&mut code, hears);
    look_up_counters(&mut code, dropped);
    code.set(R4, 1);
    count(&mut code);
    code.exit(XDP_DROP);
    code.label(To::Pass);
    code.exit(XDP_PASS);
    code.assemble()
}

/// For the sending end (tc), where a message of many datagrams is still one. Same maps.
pub fn sending(hears: i32, dropped: i32) -> Vec<Instruction> {
    use {If::*, Reg::*, Width::*};
    let mut code = Assembler::new();
    // The payload may lie in fragments that only the helper can read.
    code.copy(R7, R1).set(R2, 0).copy(R3, R10).add(R3, COPY_OFFSET.into());
    code.set(R4, LOOKED_AT_BYTES).call(SKB_LOAD_BYTES).jump_if(R0, NotEqual, 0, To::Pass);
    look_at(&mut code, R10, COPY_OFFSET);
    look_up_port(&mut code, hears);
    look_up_counters(&mut code, dropped);
    code.load(Word, R4, R7, GSO_SEGMENTS_OFFSET).jump_if(R4, NotEqual, 0, To::Counted);
    code.set(R4, 1).label(To::Counted);
    count(&mut code);
    code.exit(TCX_DROP);
    code.label(To::Pass);
    code.exit(TCX_NEXT);
    code.assemble()
}

/// Passes what is no RTP over UDP over IPv4 without options; R6 the payload's bytes and the port
/// on the stack of what is. Headers start at `frame` + `offset`.
///
/// RTP is what RFC 7983 §7 and RFC 5761 §4 call so: a first byte of 128 to 191 and a second that is
/// none of RTCP's 192 to 223.
fn look_at(code: &mut Assembler<To>, frame: Reg, offset: i16) {
    use {If::*, Reg::*, Width::*};
    code.load(Half, R5, frame, offset + ETHERTYPE_OFFSET).big_endian16(R5);
    code.jump_if(R5, NotEqual, 0x0800, To::Pass);
    code.load(Byte, R5, frame, offset + VERSION_OFFSET).jump_if(R5, NotEqual, 0x45, To::Pass);
    // A fragment: more of them follow, or this is none of the first.
    code.load(Half, R5, frame, offset + FRAGMENT_OFFSET).big_endian16(R5);
    code.and(R5, 0x3fff).jump_if(R5, NotEqual, 0, To::Pass);
    code.load(Byte, R5, frame, offset + PROTOCOL_OFFSET).jump_if(R5, NotEqual, 17, To::Pass);
    code.load(Byte, R5, frame, offset + PAYLOAD_OFFSET);
    code.jump_if(R5, Less, 128, To::Pass).jump_if(R5, Greater, 191, To::Pass);
    code.load(Byte, R5, frame, offset + PAYLOAD_OFFSET + 1);
    code.jump_if(R5, Less, 192, To::Rtp).jump_if(R5, Less, 224, To::Pass);
    code.label(To::Rtp);
    code.load(Half, R6, frame, offset + UDP_LENGTH_OFFSET).big_endian16(R6);
    code.add(R6, -UDP_HEADER_BYTES);
    code.load(Half, R5, frame, offset + PORT_OFFSET).big_endian16(R5);
    code.store(Word, R10, -4, R5);
}

/// Passes what goes to a port that hears.
fn look_up_port(code: &mut Assembler<To>, hears: i32) {
    look_up(code, hears);
    code.load(Width::Byte, Reg::R5, Reg::R0, 0).jump_if(Reg::R5, If::NotEqual, 0, To::Pass);
}

/// R0: address of the counters.
fn look_up_counters(code: &mut Assembler<To>, dropped: i32) {
    code.set(Reg::R5, 0).store(Width::Word, Reg::R10, -4, Reg::R5);
    look_up(code, dropped);
}

/// Adds R4 packets and R6 bytes. One CPU's value, and one program at a time on a CPU: no atomic is
/// needed.
fn count(code: &mut Assembler<To>) {
    use {Reg::*, Width::*};
    code.load(Double, R5, R0, 0).add_register(R5, R4).store(Double, R0, 0, R5);
    code.load(Double, R5, R0, 8).add_register(R5, R6).store(Double, R0, 8, R5);
}

/// R0: address of the map's value whose key lies below the stack's end; the frame passes if none.
fn look_up(code: &mut Assembler<To>, map: i32) {
    code.load_map(Reg::R1, map).copy(Reg::R2, Reg::R10).add(Reg::R2, -4).call(MAP_LOOKUP_ELEM);
    code.jump_if(Reg::R0, If::Equal, 0, To::Pass);
}
