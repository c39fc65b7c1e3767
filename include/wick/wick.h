// Everything a program needs to run a model with wick: Model, Engine, Request, Stream, Tensor, Error.
#pragma once

#include "wick/base/error.h"
#include "wick/engine/engine.h"
#include "wick/engine/model.h"
#include "wick/tensor/context.h"
#include "wick/tensor/tensor.h"
