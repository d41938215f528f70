//! [`super::container`] with AVX2, where the machine has it: 32 bytes at a time, and bits counted by one instruction. It halves
//! what a body costs that no rule reads (`benches/README.md`).
//!
//! The only `unsafe` of the house: loading a register, and calling a function that is compiled for instructions which were
//! found to be there. Property tests and the fuzzer hold it to the portable way.
#![allow(
    unsafe_code,
    reason = "loads registers, and calls what is compiled for AVX2 after asking the processor for it"
)]

use std::arch::x86_64::{
    __m256i, _mm_clmulepi64_si128, _mm_cvtsi128_si64, _mm_set_epi64x, _mm_set1_epi8, _mm256_cmpeq_epi8,
    _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8,
};

use super::{Masks, STEP};

/// `None` if the machine cannot do it this way.
#[inline]
pub(super) fn container(bytes: &[u8], at: usize) -> Option<Option<usize>> {
    let able = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("popcnt")
        && is_x86_feature_detected!("pclmulqdq");
    // SAFETY: the processor has every feature that the function is compiled for.
    able.then(|| unsafe { walk(bytes, at) })
}

#[target_feature(enable = "avx2,bmi1,popcnt,pclmulqdq")]
fn walk(bytes: &[u8], at: usize) -> Option<usize> {
    super::container_by(bytes, at, |step| masks(step), |bits| parity(bits))
}

#[inline]
#[target_feature(enable = "avx2")]
fn masks(step: &[u8; STEP]) -> Masks {
    let (halves, _) = step.as_chunks::<32>();
    let (low, high) = (lanes(&halves[0]), lanes(&halves[1]));
    // The two kinds of brackets differ in one bit.
    let bit = _mm256_set1_epi8(0x20);
    let brackets = (_mm256_or_si256(low, bit), _mm256_or_si256(high, bit));
    Masks {
        quotes: equal(low, high, b'"'),
        backslashes: equal(low, high, b'\\'),
        opening: equal(brackets.0, brackets.1, b'{'),
        closing: equal(brackets.0, brackets.1, b'}'),
    }
}

/// The 32 bytes of one register.
#[inline]
#[target_feature(enable = "avx2")]
fn lanes(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: the pointer is to 32 bytes that can be read, and nothing is asked of its alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// Each bit is the parity of the bits up to it: a product without carries, by all ones.
#[inline]
#[target_feature(enable = "sse2,pclmulqdq")]
fn parity(bits: u64) -> u64 {
    let ones = _mm_set1_epi8(-1);
    let product = _mm_clmulepi64_si128::<0>(_mm_set_epi64x(0, bits.cast_signed()), ones);
    _mm_cvtsi128_si64(product).cast_unsigned()
}

/// A bit for each byte that is `byte`.
#[inline]
#[target_feature(enable = "avx2")]
fn equal(low: __m256i, high: __m256i, byte: u8) -> u64 {
    let byte = _mm256_set1_epi8(byte.cast_signed());
    let mask = |lanes| u64::from(_mm256_movemask_epi8(_mm256_cmpeq_epi8(lanes, byte)).cast_unsigned());
    mask(low) | mask(high) << 32
}
