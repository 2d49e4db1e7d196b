//! Files byte by byte, right or wrong.

use std::collections::BTreeMap;

/// The data of a tensor in a file.
#[derive(Clone)]
pub struct Stored {
    name: &'static str,
    dtype: &'static str,
    shape: Vec<usize>,
    data: Vec<u8>,
}

/// A file in the making: tensors and metadata, and then its bytes.
#[derive(Clone, Default)]
pub struct File {
    tensors: Vec<Stored>,
    metadata: BTreeMap<&'static str, &'static str>,
}

fn size(dtype: &str) -> usize {
    match dtype {
        "F64" | "I64" => 8,
        "F32" | "I32" => 4,
        "F16" | "BF16" => 2,
        _ => 1,
    }
}

impl File {
    /// A tensor of zeros, in the place of the one of that name.
    pub fn with(self, name: &'static str, dtype: &'static str, shape: &[usize]) -> File {
        let data = vec![0; shape.iter().product::<usize>() * size(dtype)];
        self.with_data(name, dtype, shape, data)
    }

    pub fn with_data(
        mut self,
        name: &'static str,
        dtype: &'static str,
        shape: &[usize],
        data: Vec<u8>,
    ) -> File {
        self.tensors.retain(|tensor| tensor.name != name);
        self.tensors.push(Stored { name, dtype, shape: shape.to_vec(), data });
        self
    }

    pub fn integers(self, name: &'static str, values: &[i32]) -> File {
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.with_data(name, "I32", &[values.len()], data)
    }

    pub fn without(mut self, name: &str) -> File {
        self.tensors.retain(|tensor| tensor.name != name);
        self
    }

    pub fn saying(mut self, key: &'static str, value: &'static str) -> File {
        self.metadata.insert(key, value);
        self
    }

    pub fn header(&self) -> String {
        let metadata: Vec<String> = self.metadata.iter().map(|(k, v)| format!("{k:?}:{v:?}")).collect();
        let mut entries = vec![format!("\"__metadata__\":{{{}}}", metadata.join(","))];
        let mut start = 0;
        for Stored { name, dtype, shape, data } in &self.tensors {
            let end = start + data.len();
            entries.push(format!(
                "{name:?}:{{\"dtype\":{dtype:?},\"shape\":{shape:?},\"data_offsets\":[{start},{end}]}}"
            ));
            start = end;
        }
        format!("{{{}}}", entries.join(","))
    }

    pub fn data(&self) -> Vec<u8> {
        self.tensors.iter().flat_map(|tensor| tensor.data.clone()).collect()
    }

    pub fn bytes(&self) -> Vec<u8> {
        raw(&self.header(), &self.data())
    }

    /// The file with a change in its header's text.
    pub fn lying(&self, from: &str, to: &str) -> Vec<u8> {
        let header = self.header();
        assert!(header.contains(from), "no {from} in {header}");
        raw(&header.replacen(from, to, 1), &self.data())
    }
}

/// A file with a header, whatever that is.
pub fn raw(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// A file that says that its header has a length.
pub fn headed(length: u64, rest: &[u8]) -> Vec<u8> {
    [&length.to_le_bytes()[..], rest].concat()
}
