//! Runs PTX on the CPU, checks it like a sanitizer and counts like a profiler
