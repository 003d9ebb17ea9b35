//! Histogram of nanoseconds: 64 buckets for each power of two, so an error below 1.6 %.

#[derive(Clone)]
pub struct Histogram {
    buckets: Vec<u64>,
    pub count: u64,
    pub max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; 64 * 60], count: 0, max: 0 }
    }
}

impl Histogram {
    #[inline]
    fn bucket(value: u64) -> usize {
        if value < 64 {
            return value as usize;
        }
        let exponent = 63 - value.leading_zeros() as usize;
        let mantissa = ((value >> (exponent - 6)) & 63) as usize;
        (exponent - 5) * 64 + mantissa
    }

    fn value(bucket: usize) -> u64 {
        if bucket < 64 {
            return bucket as u64;
        }
        (64 + (bucket % 64) as u64) << (bucket / 64 - 1)
    }

    #[inline]
    pub fn add(&mut self, value: u64) {
        self.buckets[Self::bucket(value)] += 1;
        self.count += 1;
        self.max = self.max.max(value);
    }

    pub fn merge(&mut self, other: &Self) {
        for (own, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *own += more;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    /// The value that a share `q` of all values does not exceed; 0 without any.
    pub fn quantile(&self, q: f64) -> u64 {
        let wanted = (self.count as f64 * q).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Self::value(bucket).min(self.max);
            }
        }
        self.max
    }

    pub fn ms(&self, q: f64) -> f64 {
        self.quantile(q) as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_close() {
        let mut all = Histogram::default();
        let mut half = Histogram::default();
        for i in 1..=1000u64 {
            if i % 2 == 0 { all.add(i * 1000) } else { half.add(i * 1000) }
        }
        all.merge(&half);
        assert_eq!((all.count, all.max), (1000, 1_000_000));
        for (q, wanted) in [(0.5, 500_000.0), (0.99, 990_000.0)] {
            let found = all.quantile(q) as f64;
            assert!((found - wanted).abs() < wanted * 0.02, "{q}: {found}");
        }
        assert_eq!(Histogram::default().quantile(0.5), 0);
    }
}
