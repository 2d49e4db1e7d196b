//! The expansion of `#[kernel]`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Expr, FnArg, Ident, ItemFn, LitInt, LitStr, Result, ReturnType, Token, parenthesized};

/// What the attribute's parentheses hold.
#[derive(Default)]
pub struct Options {
    launch_bounds: Option<(Expr, Option<Expr>)>,
    align: Vec<(LitInt, Expr)>,
    collectives: Vec<(LitStr, Expr)>,
}

/// `KEY = EXPRESSION`.
struct Pair<K>(K, Expr);

impl<K: Parse> Parse for Pair<K> {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let key = input.parse()?;
        input.parse::<Token![=]>()?;
        Ok(Self(key, input.parse()?))
    }
}

fn pairs<K: Parse>(input: ParseStream<'_>) -> Result<Vec<(K, Expr)>> {
    let list = Punctuated::<Pair<K>, Token![,]>::parse_terminated(input)?;
    Ok(list.into_iter().map(|Pair(key, value)| (key, value)).collect())
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut options = Self::default();
        while !input.is_empty() {
            let name: Ident = input.parse()?;
            let content;
            parenthesized!(content in input);
            match name.to_string().as_str() {
                "launch_bounds" => {
                    let mut list = Punctuated::<Expr, Token![,]>::parse_terminated(&content)?.into_iter();
                    let threads = list.next();
                    let (Some(threads), blocks, None) = (threads, list.next(), list.next()) else {
                        return Err(Error::new(
                            name.span(),
                            "launch_bounds takes the greatest number of threads in a block and, optionally, the least \
                             number of blocks on a multiprocessor",
                        ));
                    };
                    options.launch_bounds = Some((threads, blocks));
                }
                "align" => options.align = pairs(&content)?,
                "collectives" => options.collectives = pairs(&content)?,
                _ => {
                    return Err(Error::new(
                        name.span(),
                        "a kernel takes launch_bounds(..), align(..) and collectives(..)",
                    ));
                }
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(options)
    }
}

/// The attribute's function as a kernel, with the markers for the builder before it.
pub fn expand(options: Options, function: ItemFn) -> Result<TokenStream> {
    let signature = &function.sig;
    let problem = |span, message| Err(Error::new(span, message));
    if signature.unsafety.is_none() {
        return problem(
            signature.fn_token.span,
            "a kernel must be `unsafe`: its launch is checked by nobody",
        );
    }
    if !matches!(signature.output, ReturnType::Default) {
        return problem(signature.output.span(), "a kernel returns nothing: write through a pointer");
    }
    if !signature.generics.params.is_empty() {
        return problem(
            signature.generics.span(),
            "a kernel has no generic parameters: the host launches it by name",
        );
    }
    if signature.asyncness.is_some() || signature.constness.is_some() || signature.abi.is_some() {
        return problem(signature.span(), "a kernel is a plain `unsafe fn`: no `async`, `const` or `extern`");
    }
    let mut types = Vec::new();
    for input in &signature.inputs {
        match input {
            FnArg::Receiver(this) => {
                return problem(this.span(), "a kernel is a free function: it has no `self`");
            }
            FnArg::Typed(argument) => types.push(&argument.ty),
        }
    }
    for (index, _) in &options.align {
        if index.base10_parse::<usize>()? >= types.len() {
            return problem(index.span(), "there is no such parameter: they are counted from 0");
        }
    }

    let ItemFn { attrs, vis, sig, block } = &function;
    let (name, inputs) = (&sig.ident, &sig.inputs);
    let copies = types.iter().map(|ty| {
        quote_spanned! {ty.span()=>
            const _: () = { const fn kernel_parameter_is_copy<T: ::core::marker::Copy>() {} kernel_parameter_is_copy::<#ty>() };
        }
    });
    let markers = markers(&options, name);
    Ok(quote! {
        #(#copies)*
        #markers
        #[cfg(target_arch = "nvptx64")]
        #(#attrs)*
        #[unsafe(no_mangle)]
        // Arrays by value are what a kernel's parameter space is for.
        #[allow(improper_ctypes_definitions)]
        #vis unsafe extern "ptx-kernel" fn #name(#inputs) #block

        #[cfg(not(target_arch = "nvptx64"))]
        #(#attrs)*
        #vis unsafe fn #name(#inputs) #block
    })
}

/// Comments in the assembly: `// launch_bounds NAME THREADS BLOCKS`, `// param_align NAME INDEX BYTES`,
/// `// collectives NAME INSTRUCTION=COUNT …`.
fn markers(options: &Options, name: &Ident) -> TokenStream {
    let mut lines = TokenStream::new();
    let mut line = |text: String, values: Vec<&Expr>| {
        lines.extend(quote! {
            #[cfg(target_arch = "nvptx64")]
            ::cuda_std::__private::global_asm!(#text, #(const #values),*);
        });
    };
    if let Some((threads, blocks)) = &options.launch_bounds {
        match blocks {
            Some(blocks) => line(format!("// launch_bounds {name} {{}} {{}}"), vec![threads, blocks]),
            None => line(format!("// launch_bounds {name} {{}}"), vec![threads]),
        }
    }
    for (index, bytes) in &options.align {
        line(format!("// param_align {name} {} {{}}", index.base10_digits()), vec![bytes]);
    }
    if !options.collectives.is_empty() {
        let list: Vec<String> =
            options.collectives.iter().map(|(op, _)| format!("{}={{}}", op.value())).collect();
        let counts = options.collectives.iter().map(|(_, count)| count).collect();
        line(format!("// collectives {name} {}", list.join(" ")), counts);
    }
    lines
}
