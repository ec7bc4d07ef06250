//! An assembler for eBPF (RFC 9669), as far as one small program needs it.
//!
//! Registers, widths and conditions are types; jumps go to labels, forward only.

use std::collections::BTreeMap;

/// A register (RFC 9669 §2.1, and the kernel's calling convention).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Reg {
    /// A call's result, and the program's.
    R0 = 0,
    /// First argument; the context at the program's start.
    R1 = 1,
    /// Second argument.
    R2 = 2,
    /// Lost in a call, like the arguments.
    R3 = 3,
    /// Lost in a call.
    R4 = 4,
    /// Lost in a call.
    R5 = 5,
    /// Kept over calls.
    R6 = 6,
    /// Kept over calls.
    R7 = 7,
    /// End of the stack; read only.
    R10 = 10,
}

/// Width of a load or store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// 8 bits.
    Byte,
    /// 16 bits, in the machine's order.
    Half,
    /// 32 bits.
    Word,
    /// 64 bits.
    Double,
}

impl Width {
    fn code(self) -> u8 {
        match self {
            Self::Word => 0x00,
            Self::Half => 0x08,
            Self::Byte => 0x10,
            Self::Double => 0x18,
        }
    }
}

/// When a jump is taken; unsigned comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum If {
    /// a = b.
    Equal,
    /// a > b.
    Greater,
    /// a ≠ b.
    NotEqual,
    /// a < b.
    Less,
}

impl If {
    fn code(self) -> u8 {
        match self {
            Self::Equal => 0x10,
            Self::Greater => 0x20,
            Self::NotEqual => 0x50,
            Self::Less => 0xa0,
        }
    }
}

/// One instruction as the kernel reads it (`struct bpf_insn`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    code: u8,
    /// Destination in the low half, source in the high half.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const IMMEDIATE: u8 = 0x00;
const REGISTER: u8 = 0x08;
const ALU64: u8 = 0x07;
const JUMP: u8 = 0x05;
/// `BPF_PSEUDO_MAP_FD` in the place of the source register.
const MAP_FD: u8 = 1;

/// Where a jump goes. A program defines its own.
pub trait Label: Copy + Ord + std::fmt::Debug {}
impl<T: Copy + Ord + std::fmt::Debug> Label for T {}

/// A program under construction.
pub struct Assembler<L> {
    code: Vec<Instruction>,
    /// Positions of jumps that wait for their label.
    open: Vec<(usize, L)>,
    labels: BTreeMap<L, usize>,
}

impl<L: Label> Assembler<L> {
    /// An empty program.
    pub fn new() -> Self {
        Self { code: Vec::new(), open: Vec::new(), labels: BTreeMap::new() }
    }

    fn push(&mut self, code: u8, to: Reg, from: u8, offset: i16, immediate: i32) -> &mut Self {
        let registers = to as u8 | from << 4;
        self.code.push(Instruction { code, registers, offset, immediate });
        self
    }

    /// `to = value`.
    pub fn set(&mut self, to: Reg, value: i32) -> &mut Self {
        self.push(ALU64 | IMMEDIATE | 0xb0, to, 0, 0, value)
    }

    /// `to = from`.
    pub fn copy(&mut self, to: Reg, from: Reg) -> &mut Self {
        self.push(ALU64 | REGISTER | 0xb0, to, from as u8, 0, 0)
    }

    /// `to += value`.
    pub fn add(&mut self, to: Reg, value: i32) -> &mut Self {
        self.push(ALU64 | IMMEDIATE, to, 0, 0, value)
    }

    /// `to += from`.
    pub fn add_register(&mut self, to: Reg, from: Reg) -> &mut Self {
        self.push(ALU64 | REGISTER, to, from as u8, 0, 0)
    }

    /// `to &= value`.
    pub fn and(&mut self, to: Reg, value: i32) -> &mut Self {
        self.push(ALU64 | IMMEDIATE | 0x50, to, 0, 0, value)
    }

    /// The low 16 bits of `to` from network order to the machine's; the others become zero.
    pub fn big_endian16(&mut self, to: Reg) -> &mut Self {
        self.push(0xdc, to, 0, 0, 16)
    }

    /// `to = *(from + offset)`.
    pub fn load(&mut self, width: Width, to: Reg, from: Reg, offset: i16) -> &mut Self {
        self.push(0x61 | width.code(), to, from as u8, offset, 0)
    }

    /// `*(to + offset) = from`.
    pub fn store(&mut self, width: Width, to: Reg, offset: i16, from: Reg) -> &mut Self {
        self.push(0x63 | width.code(), to, from as u8, offset, 0)
    }

    /// `to = ` the map behind a descriptor of the loading process.
    pub fn load_map(&mut self, to: Reg, descriptor: i32) -> &mut Self {
        self.push(0x18, to, MAP_FD, 0, descriptor);
        self.push(0, Reg::R0, 0, 0, 0)
    }

    /// Calls a helper of the kernel (`bpf-helpers(7)`): arguments in R1 to R5, result in R0.
    pub fn call(&mut self, helper: i32) -> &mut Self {
        self.push(JUMP | 0x80, Reg::R0, 0, 0, helper)
    }

    /// Jumps if `a` compares so with `value`.
    pub fn jump_if(&mut self, a: Reg, how: If, value: i32, to: L) -> &mut Self {
        self.open.push((self.code.len(), to));
        self.push(JUMP | IMMEDIATE | how.code(), a, 0, 0, value)
    }

    /// Jumps if `a` compares so with `b`.
    pub fn jump_if_register(&mut self, a: Reg, how: If, b: Reg, to: L) -> &mut Self {
        self.open.push((self.code.len(), to));
        self.push(JUMP | REGISTER | how.code(), a, b as u8, 0, 0)
    }

    /// What comes next is where jumps to this label go.
    pub fn label(&mut self, label: L) -> &mut Self {
        let before = self.labels.insert(label, self.code.len());
        assert!(before.is_none(), "a label stands at one place: {label:?}");
        self
    }

    /// Ends the program with R0 as result.
    pub fn exit(&mut self, result: i32) -> &mut Self {
        self.set(Reg::R0, result);
        self.push(JUMP | 0x90, Reg::R0, 0, 0, 0)
    }

    /// The program, its jumps resolved.
    ///
    /// # Panics
    /// A jump goes to a label that stands nowhere, or backwards: a bug of the program's author.
    pub fn assemble(mut self) -> Vec<Instruction> {
        for (at, label) in &self.open {
            let target = self.labels.get(label);
            let ahead = target.and_then(|target| target.checked_sub(at + 1));
            let ahead = ahead.unwrap_or_else(|| panic!("no label {label:?} ahead of {at}"));
            self.code[*at].offset = i16::try_from(ahead).expect("the program is short");
        }
        self.code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(
        build: impl for<'a> FnOnce(&'a mut Assembler<&'static str>) -> &'a mut Assembler<&'static str>,
        want: &[u64],
    ) {
        let mut assembler = Assembler::new();
        build(&mut assembler);
        let encoded = assembler.assemble();
        let words: Vec<u64> = encoded.iter().map(word).collect();
        assert_eq!(words, want, "{encoded:x?}");
    }

    /// As `bpftool prog dump xlated opcodes` prints it: bytes from the lowest address on.
    fn word(of: &Instruction) -> u64 {
        let mut bytes = [0; 8];
        (bytes[0], bytes[1]) = (of.code, of.registers);
        bytes[2..4].copy_from_slice(&of.offset.to_be_bytes());
        bytes[4..].copy_from_slice(&of.immediate.to_be_bytes());
        u64::from_be_bytes(bytes)
    }

    /// Encodings of RFC 9669 §§3–5, worked out by hand.
    #[test]
    fn instructions_are_encoded_as_the_standard_says() {
        use {If::*, Reg::*, Width::*};
        check(|a| a.set(R0, 2), &[0xb700_0000_0000_0002]);
        check(|a| a.copy(R6, R1), &[0xbf16_0000_0000_0000]);
        check(|a| a.add(R2, -4), &[0x0702_0000_ffff_fffc]);
        check(|a| a.add_register(R5, R6), &[0x0f65_0000_0000_0000]);
        check(|a| a.and(R5, 0x3fff), &[0x5705_0000_0000_3fff]);
        check(|a| a.big_endian16(R5), &[0xdc05_0000_0000_0010]);
        check(|a| a.load(Word, R2, R1, 4), &[0x6112_0004_0000_0000]);
        check(|a| a.load(Byte, R5, R2, 42), &[0x7125_002a_0000_0000]);
        check(|a| a.load(Half, R5, R2, 12), &[0x6925_000c_0000_0000]);
        check(|a| a.store(Double, R0, 8, R5), &[0x7b50_0008_0000_0000]);
        check(|a| a.store(Word, R10, -4, R5), &[0x635a_fffc_0000_0000]);
        check(|a| a.load_map(R1, 7), &[0x1811_0000_0000_0007, 0]);
        check(|a| a.call(1), &[0x8500_0000_0000_0001]);
        check(|a| a.exit(1), &[0xb700_0000_0000_0001, 0x9500_0000_0000_0000]);
        let over = |how, code: u64| {
            let want = [code << 56 | 0x0005_0000_0000_0009];
            check(|a| a.jump_if(R5, how, 9, "end").label("end"), &want);
        };
        [(Equal, 0x15), (Greater, 0x25), (NotEqual, 0x55), (Less, 0xa5)]
            .into_iter()
            .for_each(|(how, code)| over(how, code));
    }

    #[test]
    fn a_jump_counts_the_instructions_between_itself_and_its_label() {
        use {If::*, Reg::*};
        check(
            |a| a.jump_if_register(R4, Greater, R3, "end").set(R0, 1).label("end").exit(2),
            &[
                0x2d34_0001_0000_0000,
                0xb700_0000_0000_0001,
                0xb700_0000_0000_0002,
                0x9500_0000_0000_0000,
            ],
        );
    }

    #[test]
    #[should_panic(expected = "no label \"nowhere\" ahead of 0")]
    fn a_jump_without_its_label_is_the_authors_bug() {
        let mut assembler = Assembler::new();
        assembler.jump_if(Reg::R0, If::Equal, 0, "nowhere");
        assembler.assemble();
    }
}
