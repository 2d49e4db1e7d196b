//! The text as numbers: one a character.

use candle_core::{Device, Result, Tensor};
use rand::Rng;
use rand::rngs::SmallRng;

/// The text that ships with the example: written for it, and dedicated to the public domain (CC0 1.0).
const TEXT: &str = include_str!("text.txt");

/// A text, the characters that occur in it, and its split: the last tenth is never trained on.
pub struct Data {
    characters: Vec<char>,
    numbers: Vec<u32>,
    context: usize,
}

impl Data {
    /// The text that ships with the example, cut into pieces of `context` characters.
    pub fn new(context: usize) -> Data {
        let mut characters: Vec<char> = TEXT.chars().collect();
        characters.sort_unstable();
        characters.dedup();
        let number = |character: char| characters.partition_point(|&c| c < character) as u32;
        Data { numbers: TEXT.chars().map(number).collect(), characters, context }
    }

    /// How many different characters there are.
    pub fn vocabulary(&self) -> usize {
        self.characters.len()
    }

    fn split(&self) -> usize {
        self.numbers.len() * 9 / 10
    }

    /// Pieces from random places of the part that is trained on: characters `[batch, context]`, and for each the next one.
    pub fn batch(&self, size: usize, generator: &mut SmallRng) -> Result<(Tensor, Tensor)> {
        let last = self.split() - self.context - 1;
        self.pieces((0..size).map(|_| generator.random_range(0..=last)).collect())
    }

    /// Pieces that cover the part that is not trained on.
    pub fn held_out(&self) -> Result<(Tensor, Tensor)> {
        let end = self.numbers.len() - self.context;
        self.pieces((self.split()..end).step_by(self.context).collect())
    }

    fn pieces(&self, starts: Vec<usize>) -> Result<(Tensor, Tensor)> {
        let shape = (starts.len(), self.context);
        let tensor = |shift| {
            let piece = |start: &usize| &self.numbers[start + shift..start + shift + self.context];
            let values: Vec<u32> = starts.iter().flat_map(piece).copied().collect();
            Tensor::from_vec(values, shape, &Device::Cpu)
        };
        Ok((tensor(0)?, tensor(1)?))
    }

    /// The numbers of a text; characters that do not occur in the data are left out.
    pub fn numbers(&self, text: &str) -> Vec<u32> {
        text.chars().filter_map(|c| self.characters.binary_search(&c).ok()).map(|n| n as u32).collect()
    }

    /// The text of numbers.
    pub fn text(&self, numbers: &[u32]) -> String {
        numbers.iter().filter_map(|&n| self.characters.get(n as usize)).collect()
    }
}
