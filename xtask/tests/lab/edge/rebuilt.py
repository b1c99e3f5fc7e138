"""`rebuilt.py SLUICE OTHER` makes of a binary another build: in each section of programs of the eBPF object in it, one
instruction becomes another that does the same (a small constant that is loaded as 32 bits instead of 64)."""

import struct
import sys

EM_BPF, PROGBITS, EXECINSTR = 247, 1, 4
MOV64, MOV32, WIDE = 0xB7, 0xB4, 0x18


def objects(data):
    at = data.find(b"\x7fELF\x02\x01\x01", 4)
    while at >= 0:
        if struct.unpack_from("<H", data, at + 18)[0] == EM_BPF:
            yield at
        at = data.find(b"\x7fELF\x02\x01\x01", at + 4)


def sections(data, start):
    (table,) = struct.unpack_from("<Q", data, start + 40)
    size, count = struct.unpack_from("<HH", data, start + 58)
    for number in range(count):
        kind, flags, _, offset, length = struct.unpack_from("<IQQQQ", data, start + table + number * size + 4)
        if kind == PROGBITS and flags & EXECINSTR and length:
            yield start + offset, length


def change(data, at, length):
    end = at + length
    while at < end:
        code, registers, offset, value = struct.unpack_from("<BBhi", data, at)
        if code == MOV64 and registers < 16 and offset == 0 and value >= 0:
            data[at] = MOV32
            return 1
        at += 16 if code == WIDE else 8
    return 0


source, target = sys.argv[1:]
with open(source, "rb") as file:
    data = bytearray(file.read())
changed = sum(change(data, *section) for start in objects(data) for section in sections(data, start))
with open(target, "wb") as file:
    file.write(data)
print(changed)
