// Everything wick offers a program: models and the engine that runs them, and the tensor library underneath.
//
//   Model, Engine, Request, Stream       wick/engine: load a model, generate text
//   Tensor, Context, Device, Error       wick/tensor, wick/base
//   ops::…                               wick/ops: functions of tensors, each with an output given or an output returned
//   nn::…                                wick/nn: blocks that own weights or state
#pragma once

#include "wick/base/error.h"
#include "wick/engine/engine.h"
#include "wick/engine/model.h"
#include "wick/nn/attention.h"
#include "wick/nn/embedding.h"
#include "wick/nn/kv_cache.h"
#include "wick/nn/linear.h"
#include "wick/nn/mlp.h"
#include "wick/nn/norm.h"
#include "wick/nn/rotary.h"
#include "wick/ops/activation.h"
#include "wick/ops/argmax.h"
#include "wick/ops/attention.h"
#include "wick/ops/copy.h"
#include "wick/ops/embedding.h"
#include "wick/ops/linear.h"
#include "wick/ops/matmul.h"
#include "wick/ops/norm.h"
#include "wick/ops/rope.h"
#include "wick/ops/softmax.h"
#include "wick/tensor/context.h"
#include "wick/tensor/tensor.h"
