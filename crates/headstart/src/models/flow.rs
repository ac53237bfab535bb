//! What runs through a network from group to group.

use burn::Tensor;
use burn::tensor::{DType, Device, Int, TensorData};

use super::layers::{Map, Tokens};

/// What flows between groups: feature maps, or embeddings once pooled.
#[derive(Clone, Debug)]
pub enum Flow {
    /// Unpooled features.
    Map(Map),
    /// Unpooled features as a sequence.
    Tokens(Tokens),
    /// `[N, C]`.
    Flat(Tensor<2>),
}

impl Flow {
    /// Returns the feature maps; the caller knows it has not pooled yet.
    pub fn map(self) -> Map {
        match self {
            Flow::Map(map) => map,
            _ => panic!("a group before the pooling received an embedding or tokens"),
        }
    }

    /// Returns the tokens; the caller knows it has made them and not pooled yet.
    pub fn tokens(self) -> Tokens {
        match self {
            Flow::Tokens(tokens) => tokens,
            _ => panic!("a transformer's block received no tokens"),
        }
    }

    /// Returns the embedding; the caller knows pooling is done.
    pub fn flat(self) -> Tensor<2> {
        match self {
            Flow::Flat(x) => x,
            _ => panic!("a group after the pooling received feature maps"),
        }
    }

    /// Keeps some of the pictures.
    pub fn select(self, pictures: &[usize]) -> Self {
        let pick = |device: &Device| {
            let at: Vec<i64> = pictures.iter().map(|i| *i as i64).collect();
            Tensor::<1, Int>::from_data(TensorData::new(at, [pictures.len()]), device)
        };
        match self {
            Flow::Map(map) => {
                let x = map.into_nhwc();
                let at = pick(&x.device());
                Flow::Map(Map::from_nhwc(x.select(0, at)))
            }
            Flow::Tokens(tokens) => {
                let (grid, x) = (tokens.grid(), tokens.into_tensor());
                let at = pick(&x.device());
                Flow::Tokens(Tokens::new(x.select(0, at), grid))
            }
            Flow::Flat(x) => {
                let at = pick(&x.device());
                Flow::Flat(x.select(0, at))
            }
        }
    }

    /// Puts batches one after the other; all are of one kind, and from the CPU engine.
    pub(super) fn join(parts: Vec<Flow>) -> Self {
        match &parts[0] {
            Flow::Map(_) => {
                let maps = parts.into_iter().map(|part| part.map().into_nhwc()).collect();
                Flow::Map(Map::from_nhwc(Tensor::cat(maps, 0)))
            }
            Flow::Tokens(tokens) => {
                let grid = tokens.grid();
                let all = parts.into_iter().map(|part| part.tokens().into_tensor()).collect();
                Flow::Tokens(Tokens::new(Tensor::cat(all, 0), grid))
            }
            Flow::Flat(_) => Flow::Flat(Tensor::cat(parts.into_iter().map(Flow::flat).collect(), 0)),
        }
    }

    /// Moves it to another device of the same kind, say one with autodiff.
    pub fn to_device(self, device: &Device) -> Self {
        match self {
            Flow::Map(map) => Flow::Map(map.to_device(device)),
            Flow::Tokens(tokens) => Flow::Tokens(tokens.to_device(device)),
            Flow::Flat(x) => Flow::Flat(super::map::to_device(x, device)),
        }
    }

    /// Rounds it to bf16, in which the groups up to the pooling then run; embeddings stay in f32.
    pub fn half(self) -> Self {
        match self {
            Flow::Map(map) => Flow::Map(map.half()),
            Flow::Tokens(tokens) => Flow::Tokens(tokens.half()),
            flat => flat,
        }
    }

    /// Widens it to f32 again, on devices other than the CPU.
    pub fn wide(self) -> Self {
        match self {
            Flow::Map(map) => Flow::Map(map.wide()),
            Flow::Tokens(tokens) => Flow::Tokens(tokens.apply(|x| x.cast(DType::F32))),
            flat => flat,
        }
    }
}
