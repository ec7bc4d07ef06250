//! The XDP program: drops and counts RTP for ports that do not hear, and passes all else.

use super::asm::{Assembler, If, Instruction, Reg, Width};

/// What XDP does with a frame (`enum xdp_action`).
const XDP_DROP: i32 = 1;
const XDP_PASS: i32 = 2;
/// Helper 1 of `bpf-helpers(7)`: R1 the map, R2 the key's address; R0 the value's, or null.
const MAP_LOOKUP_ELEM: i32 = 1;

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
    Pass,
}

/// The program. `hears` is an array of 65,536 bytes by destination port, `dropped` a per-CPU array
/// of one value of [`COUNTERS_BYTES`].
///
/// RTP is what RFC 7983 §7 and RFC 5761 §4 call so: a first byte of 128 to 191 and a second that is
/// none of RTCP's 192 to 223.
pub fn program(hears: i32, dropped: i32) -> Vec<Instruction> {
    use {If::*, Reg::*, Width::*};
    let mut code = Assembler::new();
    // R2 the frame, R3 its end: the verifier wants each byte that is read proved to lie before it.
    code.load(Word, R2, R1, 0).load(Word, R3, R1, 4);
    code.copy(R4, R2).add(R4, LOOKED_AT_BYTES).jump_if_register(R4, Greater, R3, To::Pass);
    code.load(Half, R5, R2, ETHERTYPE_OFFSET).from_network_order16(R5);
    code.jump_if(R5, NotEqual, 0x0800, To::Pass);
    code.load(Byte, R5, R2, VERSION_OFFSET).jump_if(R5, NotEqual, 0x45, To::Pass);
    // A fragment: more of them follow, or this is none of the first.
    code.load(Half, R5, R2, FRAGMENT_OFFSET).from_network_order16(R5).and(R5, 0x3fff);
    code.jump_if(R5, NotEqual, 0, To::Pass);
    code.load(Byte, R5, R2, PROTOCOL_OFFSET).jump_if(R5, NotEqual, 17, To::Pass);
    code.load(Byte, R5, R2, PAYLOAD_OFFSET);
    code.jump_if(R5, Less, 128, To::Pass).jump_if(R5, Greater, 191, To::Pass);
    code.load(Byte, R5, R2, PAYLOAD_OFFSET + 1);
    code.jump_if(R5, Less, 192, To::Rtp).jump_if(R5, Less, 224, To::Pass);
    code.label(To::Rtp);
    code.load(Half, R6, R2, UDP_LENGTH_OFFSET).from_network_order16(R6);
    code.add(R6, -UDP_HEADER_BYTES);
    code.load(Half, R5, R2, PORT_OFFSET).from_network_order16(R5).store(Word, R10, -4, R5);
    look_up(&mut code, hears);
    code.load(Byte, R5, R0, 0).jump_if(R5, NotEqual, 0, To::Pass);
    code.set(R5, 0).store(Word, R10, -4, R5);
    look_up(&mut code, dropped);
    // One CPU's value, and one program at a time on a CPU: no atomic is needed.
    code.load(Double, R5, R0, 0).add(R5, 1).store(Double, R0, 0, R5);
    code.load(Double, R5, R0, 8).add_register(R5, R6).store(Double, R0, 8, R5);
    code.exit(XDP_DROP);
    code.label(To::Pass);
    code.exit(XDP_PASS);
    code.assemble()
}

/// R0: address of the map's value whose key lies below the stack's end; the frame passes if none.
fn look_up(code: &mut Assembler<To>, map: i32) {
    code.load_map(Reg::R1, map).copy(Reg::R2, Reg::R10).add(Reg::R2, -4).call(MAP_LOOKUP_ELEM);
    code.jump_if(Reg::R0, If::Equal, 0, To::Pass);
}
